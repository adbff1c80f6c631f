// Other programs: tools that run to their end, and servers that are started and stopped. One
// thread.
#ifndef TESTS_SUPPORT_PROCESS_H_
#define TESTS_SUPPORT_PROCESS_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"

namespace tidemark::test {

// How a program ended: its exit status, or 128 plus the signal that killed it, as a shell says it.
struct ToolResult {
  int exit_status = -1;
  std::string output;
  std::string errors;
};

// Runs a program found on PATH to its end.
ToolResult RunTool(const std::vector<std::string>& command);

// True if `program` is on PATH.
bool HasTool(absl::string_view program);

// A program that goes on in the background, killed at the end of this object if it still runs.
class Process {
 public:
  // Its output and errors go to `log_path` (appended).
  Process(const std::vector<std::string>& command, std::string log_path);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  pid_t pid() const { return pid_; }
  bool running();
  void Signal(int signal) const;
  // Waits until it has ended and returns its status as ToolResult says; nullopt if it still runs
  // after `timeout`.
  absl::optional<int> Wait(absl::Duration timeout);
  // All that it has printed.
  std::string Log() const;

 private:
  const std::string log_path_;
  pid_t pid_ = -1;
  absl::optional<int> exit_status_;
};

}  // namespace tidemark::test

#endif  // TESTS_SUPPORT_PROCESS_H_
