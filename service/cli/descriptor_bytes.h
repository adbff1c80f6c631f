// The protos with their comments, as bytes in the program: a google.protobuf.FileDescriptorSet.
// Made by a rule of the build.
#ifndef SERVICE_CLI_DESCRIPTOR_BYTES_H_
#define SERVICE_CLI_DESCRIPTOR_BYTES_H_

#include <cstddef>

namespace tidemark::cli {

extern const char kDescriptorBytes[];
extern const size_t kDescriptorBytesSize;

}  // namespace tidemark::cli

#endif  // SERVICE_CLI_DESCRIPTOR_BYTES_H_
