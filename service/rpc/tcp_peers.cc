#include "service/rpc/tcp_peers.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "service/rpc/limits.h"

namespace tidemark::rpc {
namespace {

// Bytes of an IPv6 address that tell networks apart.
constexpr size_t kNetworkBytes = 8;

}  // namespace

size_t TcpPeers::PerPeerOfProcess() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return kTcpConnectionsPerPeerMin;
  return std::clamp<rlim_t>(limit.rlim_cur / 8, kTcpConnectionsPerPeerMin,
                            kTcpConnectionsPerPeerMax);
}

void TcpPeers::Forget(int number) {
  const auto known = sockets_.find(number);
  if (known == sockets_.end()) return;
  const auto of_peer = numbers_.find(known->second.peer);
  of_peer->second.erase(number);
  if (of_peer->second.empty()) numbers_.erase(of_peer);
  sockets_.erase(known);
}

void TcpPeers::Prune(const std::string& peer) {
  std::vector<int> ended;
  for (const int number : numbers_[peer]) {
    const Socket& socket = sockets_.at(number);
    struct stat now = {};
    const bool is_open =
        fstat(number, &now) == 0 && now.st_dev == socket.device && now.st_ino == socket.inode;
    if (!is_open) ended.push_back(number);
  }
  for (const int number : ended) Forget(number);
}

absl::Status TcpPeers::Add(int descriptor, const std::string& peer) {
  Forget(descriptor);  // Whose it was has closed it.
  const auto count = [&] {
    const auto found = numbers_.find(peer);
    return found == numbers_.end() ? 0 : found->second.size();
  };
  if (count() >= per_peer_max_) Prune(peer);
  if (count() >= per_peer_max_) {
    return Error(Reason::kLimitReached,
                 absl::StrCat("a connection from ", peer, " is not taken: there are ",
                              per_peer_max_, " from there, which is the limit"));
  }
  struct stat now = {};
  if (fstat(descriptor, &now) != 0) {
    return Error(Reason::kIoError,
                 absl::StrCat("a connection from ", peer, " is lost: ", std::strerror(errno)));
  }
  sockets_[descriptor] = {now.st_dev, now.st_ino, peer};
  numbers_[peer].insert(descriptor);
  return absl::OkStatus();
}

absl::StatusOr<std::string> TcpPeerOf(int descriptor) {
  sockaddr_storage address = {};
  socklen_t length = sizeof address;
  if (getpeername(descriptor, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    return Error(Reason::kIoError,
                 absl::StrCat("a client has gone as it came: ", std::strerror(errno)));
  }
  char text[INET6_ADDRSTRLEN] = {};
  if (address.ss_family == AF_INET) {
    const auto& ipv4 = reinterpret_cast<const sockaddr_in&>(address);
    return std::string(inet_ntop(AF_INET, &ipv4.sin_addr, text, sizeof text));
  }
  if (address.ss_family != AF_INET6) return std::string("elsewhere");
  in6_addr ipv6 = reinterpret_cast<const sockaddr_in6&>(address).sin6_addr;
  if (IN6_IS_ADDR_V4MAPPED(&ipv6)) {
    return std::string(inet_ntop(AF_INET, &ipv6.s6_addr[12], text, sizeof text));
  }
  std::memset(ipv6.s6_addr + kNetworkBytes, 0, sizeof ipv6.s6_addr - kNetworkBytes);
  return absl::StrCat(inet_ntop(AF_INET6, &ipv6, text, sizeof text), "/64");
}

}  // namespace tidemark::rpc
