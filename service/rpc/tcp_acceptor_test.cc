// TCP connections through a whole server: how many each host has.
#include "service/rpc/tcp_acceptor.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "engine/base/mutex.h"
#include "gtest/gtest.h"
#include "service/rpc/front_world.h"
#include "tidemark/block/v1/job.grpc.pb.h"

namespace tidemark::rpc {
namespace {

namespace v1 = ::tidemark::block::v1;

constexpr size_t kPerPeer = 3;
// With which a client of HTTP/2 begins: its preface, and settings that set nothing.
constexpr char kHello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";

sockaddr_in Loopback(const char* host, int port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  inet_pton(AF_INET, host, &address.sin_addr);
  return address;
}

// A connection that closes with it.
class Connection {
 public:
  // From this address of the machine.
  Connection(const char* from, int port)
      : descriptor_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const sockaddr_in own = Loopback(from, 0);
    const sockaddr_in server = Loopback("127.0.0.1", port);
    EXPECT_EQ(bind(descriptor_, reinterpret_cast<const sockaddr*>(&own), sizeof own), 0);
    EXPECT_EQ(connect(descriptor_, reinterpret_cast<const sockaddr*>(&server), sizeof server), 0);
  }
  ~Connection() { close(descriptor_); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Whether the server says anything, and does not close it.
  bool IsServed() {
    send(descriptor_, kHello, sizeof kHello - 1, MSG_NOSIGNAL);
    char answer;
    return recv(descriptor_, &answer, 1, 0) == 1;
  }

 private:
  const int descriptor_;
};

class TcpAcceptorTest : public testing::Test {
 protected:
  void Serve(const std::string& address) {
    ServerOptions options;
    options.listen.push_back(*ParseListenAddress(address));
    options.insecure = true;
    options.tcp_connections_per_peer_max = kPerPeer;
    options.warn = [this](const std::string& text) {
      MutexLock lock(&mutex_);
      warnings_.push_back(text);
    };
    auto started = Server::Start(world_.front, options, Guard());
    ASSERT_TRUE(started.ok()) << started.status();
    server_ = *std::move(started);
    const std::string& told = server_->addresses().at(0);
    ASSERT_TRUE(absl::SimpleAtoi(told.substr(told.rfind(':') + 1), &port_)) << told;
  }
  std::unique_ptr<Connection> From(const char* host) {
    return std::make_unique<Connection>(host, port_);
  }
  std::vector<std::string> warnings() {
    MutexLock lock(&mutex_);
    return warnings_;
  }

  FrontWorld world_;
  Mutex mutex_;
  std::vector<std::string> warnings_ ABSL_GUARDED_BY(mutex_);
  int port_ = 0;
  std::unique_ptr<Server> server_;
};

TEST_F(TcpAcceptorTest, WhatAHostOpensBeyondItsShareIsClosedAtOnceAndOthersStillConnect) {
  Serve("127.0.0.1:0");
  // They say nothing, which is enough to be counted.
  std::vector<std::unique_ptr<Connection>> mine;
  for (size_t i = 0; i < kPerPeer; ++i) mine.push_back(From("127.0.0.1"));
  EXPECT_FALSE(From("127.0.0.1")->IsServed());
  EXPECT_TRUE(From("127.0.0.2")->IsServed());
  for (const auto& connection : mine) EXPECT_TRUE(connection->IsServed());
  EXPECT_FALSE(From("127.0.0.1")->IsServed());
  const std::vector<std::string> told = warnings();
  ASSERT_EQ(told.size(), 1u) << "one warning is enough for a while";
  EXPECT_TRUE(absl::StrContains(told[0], "127.0.0.1")) << told[0];
}

TEST_F(TcpAcceptorTest, AConnectionThatEndsLetsAnotherIn) {
  Serve("127.0.0.1:0");
  std::vector<std::unique_ptr<Connection>> mine;
  for (size_t i = 0; i < kPerPeer; ++i) mine.push_back(From("127.0.0.1"));
  ASSERT_FALSE(From("127.0.0.1")->IsServed());
  mine.pop_back();
  // The server sees the end in its own time.
  EXPECT_TRUE(Eventually([this] { return From("127.0.0.1")->IsServed(); }));
}

TEST_F(TcpAcceptorTest, CallsAreServed) {
  Serve("127.0.0.1:0");
  const auto channel =
      grpc::CreateChannel(server_->addresses().at(0), grpc::InsecureChannelCredentials());
  grpc::ClientContext context;
  v1::ListJobsResponse response;
  const grpc::Status status =
      v1::JobService::NewStub(channel)->ListJobs(&context, v1::ListJobsRequest(), &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
}

TEST(TcpSocket, AnAddressThatIsNotThisMachinesIsNamed) {
  const absl::Status status = TcpSocket::Bind("192.0.2.1:0").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(absl::StrContains(status.message(), "'192.0.2.1:0'")) << status;
}

TEST(TcpSocket, APortOnWhichAnotherListensIsNotTaken) {
  const auto first = TcpSocket::Bind("127.0.0.1:0");
  ASSERT_TRUE(first.ok()) << first.status();
  const absl::Status status = TcpSocket::Bind((*first)->address()).status();
  EXPECT_TRUE(absl::StrContains(status.message(), (*first)->address())) << status;
}

}  // namespace
}  // namespace tidemark::rpc
