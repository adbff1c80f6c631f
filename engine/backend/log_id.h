// The identity of an event log: sequences mean something only together with it.
#ifndef ENGINE_BACKEND_LOG_ID_H_
#define ENGINE_BACKEND_LOG_ID_H_

#include <string>

namespace tidemark::backend {

// 32 hexadecimal digits that nobody else gets. Any thread.
std::string MakeLogId();

}  // namespace tidemark::backend

#endif  // ENGINE_BACKEND_LOG_ID_H_
