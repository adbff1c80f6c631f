// A qemu-storage-daemon with a QMP monitor on a unix socket. Tests only; one thread.
#ifndef ADAPTERS_QMP_TESTING_STORAGE_DAEMON_H_
#define ADAPTERS_QMP_TESTING_STORAGE_DAEMON_H_

#include <sys/types.h>

#include <ostream>
#include <string>
#include <vector>

namespace tidemark::qmp {

struct QemuProgram {
  // "Installed", "Unpacked10".
  std::string name;
  // Empty: it is not here.
  std::string path;
  std::string module_folder;

  friend std::ostream& operator<<(std::ostream& out, const QemuProgram& program) {
    return out << program.name;
  }
};

// The one on PATH, and the one in the folder that TIDEMARK_QEMU_10 names. Always both, so that a
// test that one of them is missing for is seen to be skipped.
std::vector<QemuProgram> StorageDaemons();

class StorageDaemon {
 public:
  // Starts it and waits until its monitor at `socket` can be connected to.
  StorageDaemon(const QemuProgram& program, std::string socket);
  // Kills it if it still runs.
  ~StorageDaemon();
  StorageDaemon(const StorageDaemon&) = delete;
  StorageDaemon& operator=(const StorageDaemon&) = delete;

  pid_t pid() const { return pid_; }
  // Stops it in its tracks, and waits until it stands; lets it go on.
  void Freeze() const;
  void Thaw() const;
  // Kills it, and waits until it has gone.
  void Kill();

 private:
  pid_t pid_ = -1;
};

}  // namespace tidemark::qmp

#endif  // ADAPTERS_QMP_TESTING_STORAGE_DAEMON_H_
