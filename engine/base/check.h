// CHECK: ends the process when the program itself is wrong. Bytes from disk, socket or QMP are
// hostile, not wrong programs: they yield an absl::Status. (Debian's abseil is older than
// absl/log.)
#ifndef ENGINE_BASE_CHECK_H_
#define ENGINE_BASE_CHECK_H_

#include <cstdio>
#include <cstdlib>

namespace tidemark {

[[noreturn]] inline void CheckFailed(const char* file, int line, const char* condition) {
  std::fprintf(stderr, "%s:%d: CHECK failed: %s\n", file, line, condition);
  std::abort();
}

}  // namespace tidemark

#define CHECK(condition)                                       \
  do {                                                         \
    if (!(condition)) [[unlikely]] {                           \
      ::tidemark::CheckFailed(__FILE__, __LINE__, #condition); \
    }                                                          \
  } while (false)

#endif  // ENGINE_BASE_CHECK_H_
