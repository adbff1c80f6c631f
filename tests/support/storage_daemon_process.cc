#include "tests/support/storage_daemon_process.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/check.h"

namespace tidemark::test {
namespace {

constexpr absl::Duration kEndTimeout = absl::Seconds(60);

// Written once the monitor stands.
std::string PidFile(const std::string& socket) { return socket + ".pid"; }

std::vector<std::string> CommandWithPidFile(const QemuBuild& qemu, const std::string& socket) {
  // One that was killed leaves its own behind.
  unlink(PidFile(socket).c_str());
  std::vector<std::string> command = StorageDaemonCommand(qemu, socket);
  command.insert(command.end(), {"--pidfile", PidFile(socket)});
  return command;
}

}  // namespace

std::vector<std::string> StorageDaemonCommand(const QemuBuild& qemu, const std::string& socket) {
  std::vector<std::string> command = qemu.Command("qemu-storage-daemon");
  command.insert(command.end(),
                 {"--chardev", absl::StrCat("socket,id=qmp,server=on,wait=off,path=", socket),
                  "--monitor", "chardev=qmp"});
  return command;
}

StorageDaemonProcess::StorageDaemonProcess(const QemuBuild& qemu, const std::string& socket)
    : process_(CommandWithPidFile(qemu, socket), socket + ".log") {
  while (access(PidFile(socket).c_str(), F_OK) != 0) {
    CHECK(process_.running());  // It ended instead.
    absl::SleepFor(absl::Milliseconds(1));
  }
}

void StorageDaemonProcess::Freeze() const {
  process_.Signal(SIGSTOP);
  waitpid(process_.pid(), nullptr, WUNTRACED);
}

void StorageDaemonProcess::Thaw() const { process_.Signal(SIGCONT); }

void StorageDaemonProcess::Kill() {
  process_.Signal(SIGKILL);
  process_.Wait(kEndTimeout);
}

}  // namespace tidemark::test
