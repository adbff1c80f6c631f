// A tidemarkd of its own for one test, on a unix socket in a folder of its own. One thread.
#ifndef TESTS_SUPPORT_DAEMON_H_
#define TESTS_SUPPORT_DAEMON_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "tests/support/process.h"
#include "tests/support/temp_folder.h"

namespace tidemark::test {

class Daemon {
 public:
  // Starts tidemarkd in `folder` with its socket, state and images there, and `flags` besides.
  // Returns when it serves; `started` says whether it does.
  explicit Daemon(const TempFolder* folder, std::vector<std::string> flags = {});
  // Ends it hard if it still runs.
  ~Daemon() = default;
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  bool started() const { return started_; }
  // For grpc: "unix:/tmp/.../tidemarkd.sock".
  std::string address() const;
  Process& process() { return *process_; }
  std::string Log() const { return process_->Log(); }

  // Ends it with SIGTERM; its exit status, which should be 0.
  int Stop();
  // Ends it with SIGKILL: nothing is saved.
  void Kill();

  // The binary under test: among the test's data, or what the variable TIDEMARKD names.
  static std::string Binary();

 private:
  const TempFolder* const folder_;
  std::unique_ptr<Process> process_;
  bool started_ = false;
};

}  // namespace tidemark::test

#endif  // TESTS_SUPPORT_DAEMON_H_
