#include "adapters/qmp/monitor_address.h"

#include <linux/vm_sockets.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"

namespace tidemark::qmp {
namespace {

absl::Status Refuse(absl::string_view text, absl::string_view why) {
  return Error(Reason::kInvalidField,
               absl::StrCat("no monitor address: \"", text.substr(0, 200), "\": ", why),
               {{"value", text.substr(0, 200)}});
}

absl::StatusOr<UnixAddress> ParseUnix(absl::string_view text, absl::string_view path) {
  if (!absl::StartsWith(path, "/")) return Refuse(text, "the path of a socket is absolute");
  if (path.find('\0') != absl::string_view::npos) return Refuse(text, "a path has no NUL in it");
  constexpr size_t kPathBytesMax = sizeof(sockaddr_un::sun_path) - 1;
  if (path.size() > kPathBytesMax) {
    return Refuse(text, absl::StrCat("a socket's path has at most ", kPathBytesMax, " bytes, not ",
                                     path.size()));
  }
  return UnixAddress{std::string(path)};
}

absl::StatusOr<TcpAddress> ParseTcp(absl::string_view text, absl::string_view rest) {
  const size_t colon = rest.rfind(':');
  if (colon == absl::string_view::npos) return Refuse(text, "the port is missing");
  absl::string_view host = rest.substr(0, colon);
  if (absl::ConsumePrefix(&host, "[")) {
    if (!absl::ConsumeSuffix(&host, "]")) return Refuse(text, "a bracket is not closed");
  } else if (host.find(':') != absl::string_view::npos) {
    return Refuse(text, "an IPv6 number stands in brackets");
  }
  if (host.empty()) return Refuse(text, "the host is missing");
  if (host.size() > NI_MAXHOST || host.find('\0') != absl::string_view::npos) {
    return Refuse(text, "that is no host");
  }
  uint32_t port;
  if (!absl::SimpleAtoi(rest.substr(colon + 1), &port) || port == 0 || port > UINT16_MAX) {
    return Refuse(text, "the port is a number from 1 to 65535");
  }
  return TcpAddress{std::string(host), static_cast<uint16_t>(port)};
}

absl::StatusOr<VsockAddress> ParseVsock(absl::string_view text, absl::string_view rest) {
  VsockAddress address;
  const size_t colon = rest.find(':');
  if (colon == absl::string_view::npos || !absl::SimpleAtoi(rest.substr(0, colon), &address.cid) ||
      !absl::SimpleAtoi(rest.substr(colon + 1), &address.port)) {
    return Refuse(text, "context id and port are two numbers, as vsock:3:4444");
  }
  return address;
}

template <class Address>
SocketAddress FromKernel(int family, const Address& address, size_t length = sizeof(Address)) {
  return {family, std::string(reinterpret_cast<const char*>(&address), length)};
}

absl::StatusOr<std::vector<SocketAddress>> LookupTcp(const TcpAddress& tcp, int flags) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV | flags;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(tcp.host.c_str(), absl::StrCat(tcp.port).c_str(), &hints, &found);
  if (error != 0) {
    return Error(
        Reason::kInstanceUnreachable,
        absl::StrCat("cannot find the monitor's host ", tcp.host, ": ", gai_strerror(error)),
        {{"cause", "absent"}});
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, freeaddrinfo);
  std::vector<SocketAddress> addresses;
  for (const addrinfo* info = found; info != nullptr; info = info->ai_next) {
    addresses.push_back({info->ai_family, std::string(reinterpret_cast<const char*>(info->ai_addr),
                                                      info->ai_addrlen)});
  }
  return addresses;
}

absl::string_view CauseOf(int error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return "absent";
    case ECONNREFUSED:
      return "refused";
    case EACCES:
    case EPERM:
      return "forbidden";
    case EAGAIN:
      return "busy";
    default:
      return "unreachable";
  }
}

absl::Status ConnectError(int error, const MonitorAddress& address) {
  const absl::string_view cause = CauseOf(error);
  const absl::string_view hint =
      cause == "busy" ? ": it accepts nobody, another client may hold it" : "";
  return Error(Reason::kInstanceUnreachable,
               absl::StrCat("cannot connect to the monitor ", address.ToString(), ": ",
                            strerror(error), hint),
               {{"cause", cause}});
}

}  // namespace

absl::StatusOr<MonitorAddress> MonitorAddress::Parse(absl::string_view text) {
  MonitorAddress address;
  absl::string_view rest = text;
  if (absl::ConsumePrefix(&rest, "unix:")) {
    ASSIGN_OR_RETURN(address.value_, ParseUnix(text, rest));
  } else if (absl::ConsumePrefix(&rest, "tcp:")) {
    ASSIGN_OR_RETURN(address.value_, ParseTcp(text, rest));
  } else if (absl::ConsumePrefix(&rest, "vsock:")) {
    ASSIGN_OR_RETURN(address.value_, ParseVsock(text, rest));
  } else {
    return Refuse(text, "it begins with unix:, tcp: or vsock:");
  }
  return address;
}

std::string MonitorAddress::ToString() const {
  if (const auto* unix_address = absl::get_if<UnixAddress>(&value_)) {
    return absl::StrCat("unix:", unix_address->path);
  }
  if (const auto* tcp = absl::get_if<TcpAddress>(&value_)) {
    const bool is_v6 = absl::StrContains(tcp->host, ':');
    return absl::StrCat("tcp:", is_v6 ? "[" : "", tcp->host, is_v6 ? "]" : "", ":", tcp->port);
  }
  const auto& vsock = absl::get<VsockAddress>(value_);
  return absl::StrCat("vsock:", vsock.cid, ":", vsock.port);
}

bool NeedsLookup(const MonitorAddress& address) {
  const auto* const tcp = absl::get_if<TcpAddress>(&address.value());
  return tcp != nullptr && !LookupTcp(*tcp, AI_NUMERICHOST).ok();
}

absl::StatusOr<std::vector<SocketAddress>> Lookup(const MonitorAddress& address) {
  if (const auto* tcp = absl::get_if<TcpAddress>(&address.value())) return LookupTcp(*tcp, 0);
  if (const auto* vsock = absl::get_if<VsockAddress>(&address.value())) {
    sockaddr_vm kernel = {};
    kernel.svm_family = AF_VSOCK;
    kernel.svm_cid = vsock->cid;
    kernel.svm_port = vsock->port;
    return std::vector<SocketAddress>{FromKernel(AF_VSOCK, kernel)};
  }
  const std::string& path = absl::get<UnixAddress>(address.value()).path;
  sockaddr_un kernel = {};
  kernel.sun_family = AF_UNIX;
  path.copy(kernel.sun_path, sizeof(kernel.sun_path) - 1);
  return std::vector<SocketAddress>{FromKernel(AF_UNIX, kernel)};
}

absl::StatusOr<Connecting> StartConnect(const SocketAddress& target,
                                        const MonitorAddress& address) {
  const int fd = socket(target.family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return ConnectError(errno == EAGAIN ? ENOBUFS : errno, address);
  if (target.family == AF_INET || target.family == AF_INET6) {
    const int on = 1;
    // Best effort: without it replies are only slower.
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  }
  const auto* const kernel = reinterpret_cast<const sockaddr*>(target.bytes.data());
  if (connect(fd, kernel, target.bytes.size()) == 0) return Connecting{fd, true};
  // An interrupted connect goes on by itself.
  if (errno == EINPROGRESS || errno == EINTR) return Connecting{fd, false};
  const int error = errno;
  close(fd);
  return ConnectError(error, address);
}

absl::Status FinishConnect(int fd, const MonitorAddress& address) {
  int error = 0;
  socklen_t length = sizeof(error);
  if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0) error = errno;
  return error == 0 ? absl::OkStatus() : ConnectError(error, address);
}

}  // namespace tidemark::qmp
