// A qemu-storage-daemon whose QMP monitor waits for whoever connects. One thread.
#ifndef TESTS_SUPPORT_STORAGE_DAEMON_PROCESS_H_
#define TESTS_SUPPORT_STORAGE_DAEMON_PROCESS_H_

#include <string>
#include <vector>

#include "tests/support/process.h"
#include "tests/support/qemu_build.h"

namespace tidemark::test {

// What runs it, with its monitor at a unix socket.
std::vector<std::string> StorageDaemonCommand(const QemuBuild& qemu, const std::string& socket);

// One that is killed at the end of this object.
class StorageDaemonProcess {
 public:
  // Starts it and waits until its monitor at `socket` can be connected to. What it prints goes to a
  // file beside the socket.
  StorageDaemonProcess(const QemuBuild& qemu, const std::string& socket);

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
