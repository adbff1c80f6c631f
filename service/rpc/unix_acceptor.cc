#include "service/rpc/unix_acceptor.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "service/rpc/limits.h"

namespace tidemark::rpc {
namespace {

absl::Status SystemError(const std::string& path, int error) {
  return Error(Reason::kIoError,
               absl::StrCat("Cannot listen on '", path, "': ", std::strerror(error)),
               {{"file", path}});
}

}  // namespace

absl::StatusOr<std::unique_ptr<UnixSocket>> UnixSocket::Bind(const std::string& path) {
  RETURN_IF_ERROR(CheckSocketFree(path));
  ASSIGN_OR_RETURN(SocketNest nest, SocketNest::Create(path));
  const int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (descriptor < 0) return SystemError(path, errno);
  sockaddr_un name = {};
  name.sun_family = AF_UNIX;
  std::strncpy(name.sun_path, nest.path().c_str(), sizeof(name.sun_path) - 1);
  if (bind(descriptor, reinterpret_cast<sockaddr*>(&name), sizeof name) != 0 ||
      listen(descriptor, kUnixBacklog) != 0) {
    const int error = errno;
    close(descriptor);
    return SystemError(path, error);
  }
  return std::unique_ptr<UnixSocket>(new UnixSocket(path, descriptor, std::move(nest)));
}

UnixSocket::UnixSocket(std::string path, int descriptor, SocketNest nest)
    : path_(std::move(path)), descriptor_(descriptor), nest_(std::move(nest)) {}

// The file goes first: whoever comes then finds no daemon, and not one that does not answer.
UnixSocket::~UnixSocket() {
  struct stat found;
  if (inode_ != 0 && lstat(path_.c_str(), &found) == 0 && found.st_dev == device_ &&
      found.st_ino == inode_) {
    unlink(path_.c_str());
  }
  close(descriptor_);
}

absl::Status UnixSocket::Publish(const SocketAccess& access) {
  struct stat made;
  if (lstat(nest_->path().c_str(), &made) != 0) return SystemError(path_, errno);
  RETURN_IF_ERROR(nest_->Hatch(access));
  device_ = made.st_dev;
  inode_ = made.st_ino;
  nest_.reset();
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<UnixAcceptor>> UnixAcceptor::Start(
    std::vector<std::unique_ptr<UnixSocket>> sockets, UnixPeers& peers, Hooks hooks) {
  auto acceptor =
      std::unique_ptr<UnixAcceptor>(new UnixAcceptor(std::move(sockets), peers, std::move(hooks)));
  std::vector<int> listeners;
  for (const auto& socket : acceptor->sockets_) listeners.push_back(socket->descriptor());
  const auto take = [self = acceptor.get()](int, int descriptor) { return self->Take(descriptor); };
  ASSIGN_OR_RETURN(acceptor->loop_,
                   AcceptLoop::Start(std::move(listeners), "a client of a unix socket",
                                     {take, acceptor->hooks_.warn}));
  return acceptor;
}

UnixAcceptor::UnixAcceptor(std::vector<std::unique_ptr<UnixSocket>> sockets, UnixPeers& peers,
                           Hooks hooks)
    : sockets_(std::move(sockets)), peers_(peers), hooks_(std::move(hooks)) {}

UnixAcceptor::~UnixAcceptor() = default;

absl::Status UnixAcceptor::Take(int descriptor) {
  const absl::StatusOr<UnixPeer> peer = UnixPeerOf(descriptor);
  if (!peer.ok()) {
    close(descriptor);
    return peer.status();
  }
  ASSIGN_OR_RETURN(const int number, peers_.Place(descriptor, *peer));
  hooks_.admit(number);
  return absl::OkStatus();
}

}  // namespace tidemark::rpc
