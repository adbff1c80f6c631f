#include "service/rpc/tcp_peers.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include "engine/base/error.h"
#include "gtest/gtest.h"
#include "service/rpc/limits.h"

namespace tidemark::rpc {
namespace {

int NewSocket() { return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); }

TEST(TcpPeers, AHostHasItsShareAndNoMore) {
  TcpPeers peers(2);
  const int mine[] = {NewSocket(), NewSocket(), NewSocket()};
  const int other = NewSocket();
  EXPECT_TRUE(peers.Add(mine[0], "10.0.0.1").ok());
  EXPECT_TRUE(peers.Add(mine[1], "10.0.0.1").ok());
  const absl::Status refused = peers.Add(mine[2], "10.0.0.1");
  EXPECT_TRUE(HasReason(refused, Reason::kLimitReached)) << refused;
  EXPECT_NE(refused.message().find("10.0.0.1"), absl::string_view::npos) << refused;
  EXPECT_TRUE(peers.Add(other, "10.0.0.2").ok());
  for (const int descriptor : mine) close(descriptor);
  close(other);
}

TEST(TcpPeers, AConnectionCountsForAsLongAsItIsOpen) {
  TcpPeers peers(2);
  const int first = NewSocket();
  const int second = NewSocket();
  ASSERT_TRUE(peers.Add(first, "a").ok());
  ASSERT_TRUE(peers.Add(second, "a").ok());
  close(first);
  const int third = NewSocket();
  EXPECT_TRUE(peers.Add(third, "a").ok());
  close(second);
  close(third);
}

// Its number is in use again, but by something else.
TEST(TcpPeers, ANumberThatAnotherFileHasNowIsNoConnection) {
  TcpPeers peers(1);
  const int first = NewSocket();
  ASSERT_TRUE(peers.Add(first, "a").ok());
  const int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
  ASSERT_EQ(dup2(file, first), first);
  const int second = NewSocket();
  EXPECT_TRUE(peers.Add(second, "a").ok());
  const int third = NewSocket();
  ASSERT_EQ(dup2(third, second), second);
  const int fourth = NewSocket();
  EXPECT_TRUE(peers.Add(fourth, "a").ok()) << "another socket is another connection";
  for (const int descriptor : {first, file, second, third, fourth}) close(descriptor);
}

TEST(TcpPeers, WhatIsRememberedDoesNotGrowWithTheHostsThatCameAndWent) {
  TcpPeers peers(2);
  for (int i = 0; i < 1'000; ++i) {
    const int descriptor = NewSocket();
    ASSERT_TRUE(peers.Add(descriptor, std::to_string(i)).ok());
    close(descriptor);
  }
  EXPECT_LE(peers.peer_count(), 2u);
}

TEST(TcpPeers, TheShareIsNeitherNothingNorEverything) {
  EXPECT_GE(TcpPeers::PerPeerOfProcess(), kTcpConnectionsPerPeerMin);
  EXPECT_LE(TcpPeers::PerPeerOfProcess(), kTcpConnectionsPerPeerMax);
}

// The host of a client that connects to `target`, as a socket sees it that listens on every address
// of `family`; empty if the machine does not have that.
std::string HostSeen(int family, const char* target) {
  const int listener = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int no = 0;
  if (family == AF_INET6) setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no);
  sockaddr_storage bound = {};
  bound.ss_family = static_cast<sa_family_t>(family);
  socklen_t length = family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
  std::string host;
  if (bind(listener, reinterpret_cast<sockaddr*>(&bound), length) == 0 &&
      listen(listener, 1) == 0) {
    getsockname(listener, reinterpret_cast<sockaddr*>(&bound), &length);
    // The port has the same place in both.
    const std::string port =
        std::to_string(ntohs(reinterpret_cast<const sockaddr_in&>(bound).sin_port));
    addrinfo hints = {};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
    addrinfo* to = nullptr;
    EXPECT_EQ(getaddrinfo(target, port.c_str(), &hints, &to), 0);
    const int client = socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(client, to->ai_addr, to->ai_addrlen) == 0) {
      const int accepted = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
      host = TcpPeerOf(accepted).value_or("unknown");
      close(accepted);
    }
    close(client);
    freeaddrinfo(to);
  }
  close(listener);
  return host;
}

TEST(TcpPeerOf, IsAnAddressOfIpv4) { EXPECT_EQ(HostSeen(AF_INET, "127.0.0.1"), "127.0.0.1"); }

TEST(TcpPeerOf, IsTheSameAddressIfItWasMappedIntoIpv6) {
  const std::string host = HostSeen(AF_INET6, "127.0.0.1");
  if (host.empty()) GTEST_SKIP() << "this machine has no IPv6";
  EXPECT_EQ(host, "127.0.0.1");
}

TEST(TcpPeerOf, IsTheNetworkOfAnAddressOfIpv6) {
  const std::string host = HostSeen(AF_INET6, "::1");
  if (host.empty()) GTEST_SKIP() << "this machine has no IPv6";
  EXPECT_EQ(host, "::/64");
}

TEST(TcpPeerOf, IsNobodyOnASocketThatIsNotConnected) {
  const int lonely = NewSocket();
  EXPECT_FALSE(TcpPeerOf(lonely).ok());
  close(lonely);
}

}  // namespace
}  // namespace tidemark::rpc
