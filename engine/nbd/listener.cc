#include "engine/nbd/listener.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/descriptor_reserve.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/nbd/limits.h"

namespace tidemark::nbd {

std::string ToString(const Address& address) {
  if (const auto* local = absl::get_if<UnixAddress>(&address)) return local->path;
  const auto& tcp = absl::get<TcpAddress>(address);
  return absl::StrCat(tcp.host, ":", tcp.port);
}

namespace {

absl::Status BindError(const Address& address, absl::string_view why) {
  return Error(Reason::kIoError,
               absl::StrCat("cannot listen for NBD clients at '", ToString(address), "': ", why),
               {{"address", ToString(address)}});
}

absl::Status AddressError(const Address& address, absl::string_view why) {
  return Error(Reason::kInvalidField,
               absl::StrCat("cannot listen for NBD clients at '", ToString(address), "': ", why),
               {{"address", ToString(address)}});
}

bool SomebodyListensAt(const sockaddr_un& name) {
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return true;
  const auto closer = absl::MakeCleanup([fd] { close(fd); });
  if (connect(fd, reinterpret_cast<const sockaddr*>(&name), sizeof(name)) == 0) return true;
  return errno != ECONNREFUSED && errno != ENOENT;
}

// Makes way for a socket file: a left-over one is removed, anything else is respected.
absl::Status RemoveStaleFile(const Address& address, const sockaddr_un& name) {
  struct stat found;
  if (lstat(name.sun_path, &found) != 0) return absl::OkStatus();  // bind says what is wrong.
  if (!S_ISSOCK(found.st_mode)) return BindError(address, "a file that is no socket is there");
  if (SomebodyListensAt(name)) return BindError(address, "somebody listens there already");
  if (unlink(name.sun_path) != 0 && errno != ENOENT) return BindError(address, strerror(errno));
  return absl::OkStatus();
}

absl::StatusOr<int> BindUnix(const Address& address, const std::string& path) {
  sockaddr_un name = {};
  name.sun_family = AF_UNIX;
  if (path.empty()) return AddressError(address, "the path is empty");
  if (path.find('\0') != std::string::npos) return AddressError(address, "the path holds a NUL");
  if (path.size() >= sizeof(name.sun_path)) {
    return AddressError(
        address, absl::StrCat("the path is longer than ", sizeof(name.sun_path) - 1, " bytes"));
  }
  memcpy(name.sun_path, path.data(), path.size());
  RETURN_IF_ERROR(RemoveStaleFile(address, name));
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return BindError(address, strerror(errno));
  if (bind(fd, reinterpret_cast<const sockaddr*>(&name), sizeof(name)) != 0) {
    const int error = errno;
    close(fd);
    return BindError(address, strerror(error));
  }
  if (listen(fd, kListenBacklog) != 0) {
    const int error = errno;
    close(fd);
    unlink(path.c_str());
    return BindError(address, strerror(error));
  }
  return fd;
}

// Whether only this machine can reach it.
bool IsLoopback(const sockaddr* name) {
  if (name->sa_family == AF_INET) {
    const auto* const v4 = reinterpret_cast<const sockaddr_in*>(name);
    return ntohl(v4->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
  }
  if (name->sa_family != AF_INET6) return false;
  const in6_addr& v6 = reinterpret_cast<const sockaddr_in6*>(name)->sin6_addr;
  return IN6_IS_ADDR_LOOPBACK(&v6) ||
         (IN6_IS_ADDR_V4MAPPED(&v6) && v6.s6_addr[12] == IN_LOOPBACKNET);
}

// Of what a name stands for nothing may lie outside: which of them is bound is not the caller's
// choice.
absl::Status CheckLoopback(const Address& address, const addrinfo* found) {
  for (const addrinfo* entry = found; entry != nullptr; entry = entry->ai_next) {
    if (IsLoopback(entry->ai_addr)) continue;
    return Error(Reason::kPathForbidden,
                 absl::StrCat("cannot listen for NBD clients at '", ToString(address),
                              "': other machines would reach it, and without TLS nothing guards "
                              "the disks there; use a unix socket or 127.0.0.1, or start the "
                              "service with --insecure"),
                 {{"address", ToString(address)}});
  }
  return absl::OkStatus();
}

absl::StatusOr<int> BindTcp(const Address& address, const TcpAddress& tcp, bool allow_remote) {
  addrinfo hints = {};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  const int result = getaddrinfo(tcp.host.empty() ? nullptr : tcp.host.c_str(),
                                 tcp.port.empty() ? "0" : tcp.port.c_str(), &hints, &found);
  if (result != 0) return AddressError(address, gai_strerror(result));
  const auto releaser = absl::MakeCleanup([found] { freeaddrinfo(found); });
  if (!allow_remote) RETURN_IF_ERROR(CheckLoopback(address, found));
  int error = EADDRNOTAVAIL;
  for (const addrinfo* entry = found; entry != nullptr; entry = entry->ai_next) {
    const int fd = socket(entry->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
      error = errno;
      continue;
    }
    const int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, entry->ai_addr, entry->ai_addrlen) == 0 && listen(fd, kListenBacklog) == 0) {
      return fd;
    }
    error = errno;
    close(fd);
  }
  return BindError(address, strerror(error));
}

// `tcp` with the port that `fd` really has.
TcpAddress WithBoundPort(TcpAddress tcp, int fd) {
  sockaddr_storage name = {};
  socklen_t length = sizeof(name);
  char port[NI_MAXSERV];
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&name), &length) == 0 &&
      getnameinfo(reinterpret_cast<sockaddr*>(&name), length, nullptr, 0, port, sizeof(port),
                  NI_NUMERICSERV) == 0) {
    tcp.port = port;
  }
  return tcp;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Listener>> Listener::Bind(const Address& address,
                                                         bool allow_remote) {
  const auto* local = absl::get_if<UnixAddress>(&address);
  ASSIGN_OR_RETURN(const int fd, local != nullptr ? BindUnix(address, local->path)
                                                  : BindTcp(address, absl::get<TcpAddress>(address),
                                                            allow_remote));
  const int wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake_fd < 0) {
    const int error = errno;
    close(fd);
    if (local != nullptr) unlink(local->path.c_str());
    return BindError(address, strerror(error));
  }
  return std::unique_ptr<Listener>(new Listener(
      fd, wake_fd, local != nullptr ? address : WithBoundPort(absl::get<TcpAddress>(address), fd)));
}

Listener::Listener(int fd, int wake_fd, Address address)
    : fd_(fd), wake_fd_(wake_fd), address_(std::move(address)) {
  if (const auto* local = absl::get_if<UnixAddress>(&address_)) {
    struct stat made;
    if (lstat(local->path.c_str(), &made) == 0) {
      device_ = made.st_dev;
      inode_ = made.st_ino;
    }
  }
}

Listener::~Listener() {
  RemoveFile();
  close(fd_);
  close(wake_fd_);
}

absl::optional<int> Listener::Accept(bool admits) {
  pollfd entries[2] = {{wake_fd_, POLLIN, 0}, {fd_, POLLIN, 0}};
  poll(entries, admits ? 2 : 1, -1);
  if (entries[0].revents != 0) {
    uint64_t count;
    const ssize_t drained = read(wake_fd_, &count, sizeof(count));
    CHECK(drained == sizeof(count) || errno == EAGAIN);
    return absl::nullopt;
  }
  if (!admits || entries[1].revents == 0) return absl::nullopt;
  const int client = accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
  if (client >= 0) {
    if (CheckDescriptorReserve(client, "cannot take an NBD client").ok()) return client;
    close(client);  // Others are to be able to say what is to be closed.
    return absl::nullopt;
  }
  if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
    // The client stays in the backlog, so the next poll would return at once: let others end first.
    poll(entries, 1, static_cast<int>(absl::ToInt64Milliseconds(kAcceptRetryInterval)));
  }
  return absl::nullopt;
}

void Listener::Wake() {
  const uint64_t one = 1;
  const ssize_t written = write(wake_fd_, &one, sizeof(one));
  CHECK(written == sizeof(one) || errno == EAGAIN);
}

void Listener::RemoveFile() {
  const auto* local = absl::get_if<UnixAddress>(&address_);
  if (local == nullptr) return;
  struct stat found;
  if (lstat(local->path.c_str(), &found) == 0 && found.st_dev == device_ &&
      found.st_ino == inode_) {
    unlink(local->path.c_str());
  }
}

}  // namespace tidemark::nbd
