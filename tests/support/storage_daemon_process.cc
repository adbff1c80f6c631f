#include "tests/support/storage_daemon_process.h"

#include <signal.h>
#include <sys/wait.h>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "tests/support/qmp_client.h"

namespace tidemark::test {
namespace {

constexpr absl::Duration kEndTimeout = absl::Seconds(60);

}  // namespace

std::vector<std::string> StorageDaemonCommand(const QemuBuild& qemu, const std::string& socket) {
  std::vector<std::string> command = qemu.Command("qemu-storage-daemon");
  command.insert(command.end(),
                 {"--chardev", absl::StrCat("socket,id=qmp,server=on,wait=on,path=", socket),
                  "--monitor", "chardev=qmp"});
  return command;
}

void AwaitMonitor(const std::string& socket) { CHECK(QmpClient(socket).connected()); }

StorageDaemonProcess::StorageDaemonProcess(const QemuBuild& qemu, const std::string& socket,
                                           FirstClient first)
    : process_(StorageDaemonCommand(qemu, socket), socket + ".log") {
  if (first == FirstClient::kTest) AwaitMonitor(socket);
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
