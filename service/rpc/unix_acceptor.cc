#include "service/rpc/unix_acceptor.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/descriptor_reserve.h"
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
  const int wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake < 0) return OutOfDescriptorsError("Cannot listen on unix sockets");
  auto acceptor = std::unique_ptr<UnixAcceptor>(
      new UnixAcceptor(std::move(sockets), wake, peers, std::move(hooks)));
  acceptor->thread_.emplace("accept", [self = acceptor.get()] { self->Run(); });
  return acceptor;
}

UnixAcceptor::UnixAcceptor(std::vector<std::unique_ptr<UnixSocket>> sockets, int wake,
                           UnixPeers& peers, Hooks hooks)
    : sockets_(std::move(sockets)), wake_(wake), peers_(peers), hooks_(std::move(hooks)) {}

UnixAcceptor::~UnixAcceptor() {
  const uint64_t one = 1;
  CHECK(write(wake_, &one, sizeof one) == sizeof one);
  if (thread_.has_value()) thread_->Join();
  close(wake_);
}

void UnixAcceptor::Run() {
  std::vector<pollfd> entries = {{wake_, POLLIN, 0}};
  for (const auto& socket : sockets_) entries.push_back({socket->descriptor(), POLLIN, 0});
  for (;;) {
    poll(entries.data(), entries.size(), -1);
    if (entries[0].revents != 0) return;
    bool has_room = true;
    for (size_t i = 1; i < entries.size(); ++i) {
      if (entries[i].revents != 0) has_room = AcceptOne(entries[i].fd) && has_room;
    }
    // The client waits in the kernel, so that the next poll would return at once: others are to end
    // first.
    if (!has_room) poll(entries.data(), 1, absl::ToInt64Milliseconds(kAcceptRetryInterval));
  }
}

bool UnixAcceptor::AcceptOne(int socket) {
  const int descriptor = accept4(socket, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (descriptor < 0) {
    const bool is_full = errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
    if (is_full) Warn(OutOfDescriptorsError("a client of a unix socket has to wait"));
    return !is_full;
  }
  const absl::StatusOr<UnixPeer> peer = UnixPeerOf(descriptor);
  if (!peer.ok()) {
    close(descriptor);
    Warn(peer.status());
    return true;
  }
  const absl::StatusOr<int> number = peers_.Place(descriptor, *peer);
  if (number.ok()) {
    hooks_.admit(*number);
  } else {
    Warn(number.status());
  }
  return true;
}

void UnixAcceptor::Warn(const absl::Status& why) {
  const absl::Duration now = SystemClock().Elapsed();
  if (warned_at_.has_value() && now - *warned_at_ < kWarningInterval) return;
  warned_at_ = now;
  hooks_.warn(std::string(why.message()));
}

}  // namespace tidemark::rpc
