#include "tests/support/daemon.h"

#include <signal.h>
#include <stdlib.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/support/client.h"

namespace tidemark::test {
namespace {

constexpr absl::Duration kStartTimeout = absl::Seconds(60);
constexpr absl::Duration kStopTimeout = absl::Seconds(60);

std::string Variable(const char* name) {
  const char* value = getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace

std::string Daemon::Binary() {
  const std::string named = Variable("TIDEMARKD");
  if (!named.empty()) return named;
  return absl::StrCat(Variable("TEST_SRCDIR"), "/", Variable("TEST_WORKSPACE"),
                      "/service/tidemarkd");
}

Daemon::Daemon(const TempFolder* folder, std::vector<std::string> flags) : folder_(folder) {
  std::vector<std::string> command = {Binary(), absl::StrCat("--listen=", address()),
                                      absl::StrCat("--state_dir=", folder->File("state")),
                                      absl::StrCat("--image_root=", folder->path())};
  command.insert(command.end(), flags.begin(), flags.end());
  process_ = std::make_unique<Process>(command, folder->File("tidemarkd.log"));
  Client client(address());
  const absl::Time deadline = absl::Now() + kStartTimeout;
  while (!started_ && process_->running() && absl::Now() < deadline) {
    // It serves a moment before it has tidied up after the making of its sockets, and says so.
    started_ = client.WaitUntilServing(absl::Milliseconds(200)) &&
               absl::StrContains(process_->Log(), "listening on");
  }
}

std::string Daemon::address() const {
  return absl::StrCat("unix:", folder_->File("tidemarkd.sock"));
}

int Daemon::Stop() {
  process_->Signal(SIGTERM);
  return process_->Wait(kStopTimeout).value_or(-1);
}

void Daemon::Kill() {
  process_->Signal(SIGKILL);
  process_->Wait(kStopTimeout);
}

}  // namespace tidemark::test
