// The process at the other end of a unix socket: whether it still lives. Any thread.
#ifndef ADAPTERS_QMP_PEER_PROCESS_H_
#define ADAPTERS_QMP_PEER_PROCESS_H_

#include <sys/types.h>

namespace tidemark::qmp {

// Holds on to the process itself, not to its number, which another one may get.
class PeerProcess {
 public:
  // Of the process that listened when `socket` connected. It is not known for other sockets, and
  // not trusted unless it is a QEMU by its name: a program that made the socket and handed it over
  // (libvirt) may end while QEMU goes on.
  explicit PeerProcess(int socket);
  ~PeerProcess();
  PeerProcess(const PeerProcess&) = delete;
  PeerProcess& operator=(const PeerProcess&) = delete;

  // 0 if unknown.
  pid_t pid() const { return pid_; }
  // Whether HasExited can tell.
  bool is_watched() const { return pid_fd_ >= 0; }
  // False if it lives or is not known.
  bool HasExited() const;

 private:
  pid_t pid_ = 0;
  int pid_fd_ = -1;
};

}  // namespace tidemark::qmp

#endif  // ADAPTERS_QMP_PEER_PROCESS_H_
