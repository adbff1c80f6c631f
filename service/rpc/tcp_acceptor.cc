#include "service/rpc/tcp_acceptor.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "engine/base/status_macros.h"
#include "service/rpc/limits.h"

namespace tidemark::rpc {
namespace {

absl::Status CannotListen(const std::string& numeric, absl::string_view why) {
  return absl::FailedPreconditionError(absl::StrCat("Cannot listen on '", numeric, "': ", why));
}

// Of a socket that is bound.
int PortOf(int descriptor) {
  sockaddr_storage bound = {};
  socklen_t length = sizeof bound;
  if (getsockname(descriptor, reinterpret_cast<sockaddr*>(&bound), &length) != 0) return -1;
  return ntohs(bound.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(bound).sin6_port
                                           : reinterpret_cast<sockaddr_in&>(bound).sin_port);
}

// What connections have from the socket that they came by.
void SetOptions(int descriptor, int family) {
  const auto set = [descriptor](int level, int option, int value) {
    setsockopt(descriptor, level, option, &value, sizeof value);
  };
  // Only connections that have ended may be in the way, not another that listens.
  set(SOL_SOCKET, SO_REUSEADDR, 1);
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  // What is not taken from us for so long ends the connection, as a keepalive without an answer.
  set(IPPROTO_TCP, TCP_USER_TIMEOUT,
      static_cast<int>(absl::ToInt64Milliseconds(kKeepaliveTimeout)));
  if (family == AF_INET6) set(IPPROTO_IPV6, IPV6_V6ONLY, 0);
}

}  // namespace

absl::StatusOr<std::unique_ptr<TcpSocket>> TcpSocket::Bind(const std::string& numeric) {
  const size_t colon = numeric.rfind(':');
  absl::string_view host = absl::string_view(numeric).substr(0, colon);
  absl::ConsumePrefix(&host, "[");
  absl::ConsumeSuffix(&host, "]");
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int error =
      getaddrinfo(std::string(host).c_str(), numeric.c_str() + colon + 1, &hints, &found);
  if (error != 0) return CannotListen(numeric, gai_strerror(error));
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> address(found, &freeaddrinfo);
  const int descriptor =
      socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP);
  if (descriptor < 0) return CannotListen(numeric, std::strerror(errno));
  SetOptions(descriptor, address->ai_family);
  const bool listens = bind(descriptor, address->ai_addr, address->ai_addrlen) == 0 &&
                       listen(descriptor, kTcpBacklog) == 0;
  const int port = listens ? PortOf(descriptor) : -1;
  if (port < 0) {
    const int why = errno;
    close(descriptor);
    return CannotListen(numeric, std::strerror(why));
  }
  return std::unique_ptr<TcpSocket>(
      new TcpSocket(descriptor, absl::StrCat(numeric.substr(0, colon), ":", port)));
}

TcpSocket::~TcpSocket() { close(descriptor_); }

absl::StatusOr<std::unique_ptr<TcpAcceptor>> TcpAcceptor::Start(
    std::vector<std::unique_ptr<TcpSocket>> sockets, size_t per_peer_max, Hooks hooks) {
  auto acceptor = std::unique_ptr<TcpAcceptor>(
      new TcpAcceptor(std::move(sockets), per_peer_max, std::move(hooks)));
  std::vector<int> listeners;
  for (const auto& socket : acceptor->sockets_) listeners.push_back(socket->descriptor());
  const auto take = [self = acceptor.get()](int listener, int descriptor) {
    return self->Take(listener, descriptor);
  };
  ASSIGN_OR_RETURN(acceptor->loop_,
                   AcceptLoop::Start(std::move(listeners), "a client of a TCP address",
                                     {take, acceptor->hooks_.warn}));
  return acceptor;
}

TcpAcceptor::TcpAcceptor(std::vector<std::unique_ptr<TcpSocket>> sockets, size_t per_peer_max,
                         Hooks hooks)
    : sockets_(std::move(sockets)), hooks_(std::move(hooks)), peers_(per_peer_max) {}

TcpAcceptor::~TcpAcceptor() = default;

absl::Status TcpAcceptor::Take(int listener, int descriptor) {
  const absl::StatusOr<std::string> peer = TcpPeerOf(descriptor);
  if (!peer.ok()) {
    close(descriptor);
    return absl::OkStatus();  // It is the client who has gone, which is nobody's concern.
  }
  if (absl::Status counted = peers_.Add(descriptor, *peer); !counted.ok()) {
    close(descriptor);
    return counted;
  }
  hooks_.admit(listener, descriptor);
  return absl::OkStatus();
}

}  // namespace tidemark::rpc
