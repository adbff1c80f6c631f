// A qemu-storage-daemon whose QMP monitor waits for whoever connects. One thread.
#ifndef TESTS_SUPPORT_STORAGE_DAEMON_PROCESS_H_
#define TESTS_SUPPORT_STORAGE_DAEMON_PROCESS_H_

#include <string>
#include <vector>

#include "tests/support/process.h"
#include "tests/support/qemu_build.h"

namespace tidemark::test {

// What runs it, with its monitor at a unix socket. It does nothing before its first client is
// there: one that comes later, while the daemon hands the socket over to its I/O thread, has it
// read by two threads at once now and then (7.2 and 10.0.2, about one start in a thousand), and
// lines are torn.
std::vector<std::string> StorageDaemonCommand(const QemuBuild& qemu, const std::string& socket);

// Is that first client, and returns once it has been served: from then on anybody may connect.
void AwaitMonitor(const std::string& socket);

// Who connects to a monitor first: its test, or tidemarkd, which knows its socket already.
enum class FirstClient { kTest, kService };

// One that is killed at the end of this object.
class StorageDaemonProcess {
 public:
  // Starts it with its monitor at `socket`; unless the service is to connect first, waits until it
  // has served a client. What it prints goes to a file beside the socket.
  StorageDaemonProcess(const QemuBuild& qemu, const std::string& socket,
                       FirstClient first = FirstClient::kTest);

  pid_t pid() const { return process_.pid(); }
  // Stops it in its tracks, and waits until it stands; lets it go on.
  void Freeze() const;
  void Thaw() const;
  // Kills it, and waits until it has gone.
  void Kill();

 private:
  Process process_;
};

}  // namespace tidemark::test

#endif  // TESTS_SUPPORT_STORAGE_DAEMON_PROCESS_H_
