// The version of Tidemark: what --version and GetCapabilities say.
#ifndef SERVICE_SHARED_VERSION_H_
#define SERVICE_SHARED_VERSION_H_

namespace tidemark {

inline constexpr char kVersion[] = "0.1.0";

}  // namespace tidemark

#endif  // SERVICE_SHARED_VERSION_H_
