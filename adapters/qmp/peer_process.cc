#include "adapters/qmp/peer_process.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace tidemark::qmp {
namespace {

bool IsQemu(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/comm"));
  std::string name;
  std::getline(file, name);
  return absl::StartsWith(name, "qemu") || name == "kvm";
}

}  // namespace

PeerProcess::PeerProcess(int socket) {
  sockaddr_storage address;
  socklen_t length = sizeof(address);
  if (getpeername(socket, reinterpret_cast<sockaddr*>(&address), &length) != 0) return;
  if (address.ss_family != AF_UNIX) return;
  ucred credentials;
  length = sizeof(credentials);
  if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) return;
  pid_ = credentials.pid;
  if (pid_ <= 0) return;
  // The descriptor first: the name is then that of the process we hold, or of nobody.
  pid_fd_ = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
  if (pid_fd_ >= 0 && !IsQemu(pid_)) {
    close(pid_fd_);
    pid_fd_ = -1;
  }
}

PeerProcess::~PeerProcess() {
  if (pid_fd_ >= 0) close(pid_fd_);
}

bool PeerProcess::HasExited() const {
  if (pid_fd_ < 0) return false;
  pollfd watched = {pid_fd_, POLLIN, 0};
  return poll(&watched, 1, 0) == 1 && (watched.revents & POLLIN) != 0;
}

}  // namespace tidemark::qmp
