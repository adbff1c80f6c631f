// Who called, as a handler sees it: by every way in.
#include "service/rpc/peer.h"

#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "grpcpp/create_channel_posix.h"
#include "grpcpp/server_builder.h"
#include "grpcpp/server_posix.h"
#include "gtest/gtest.h"
#include "service/rpc/certificates.h"
#include "service/rpc/front_world.h"
#include "service/rpc/tls.h"
#include "service/rpc/unix_acceptor.h"
#include "tidemark/block/v1/job.grpc.pb.h"

namespace tidemark::rpc {
namespace {

namespace v1 = ::tidemark::block::v1;

constexpr char kSecretHash[] = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
// A user who is not the test's.
constexpr uid_t kNobody = 65534;

// Notes who called.
class Witness final : public v1::JobService::CallbackService {
 public:
  grpc::ServerUnaryReactor* ListJobs(grpc::CallbackServerContext* context,
                                     const v1::ListJobsRequest*, v1::ListJobsResponse*) override {
    {
      MutexLock lock(&mutex_);
      seen_ = PeerOf(*context);
      key_ = PeerKey(*context);
    }
    grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }
  Peer seen() {
    MutexLock lock(&mutex_);
    return seen_;
  }
  std::string key() {
    MutexLock lock(&mutex_);
    return key_;
  }

 private:
  Mutex mutex_;
  Peer seen_ ABSL_GUARDED_BY(mutex_);
  std::string key_ ABSL_GUARDED_BY(mutex_);
};

class PeerTest : public testing::Test {
 protected:
  ~PeerTest() override {
    acceptor_ = nullptr;
    if (server_ != nullptr) server_->Shutdown();
  }
  // A server at the port, with the credentials; and at a unix socket, for everybody.
  void Serve(const std::string& tcp, const std::shared_ptr<grpc::ServerCredentials>& credentials) {
    grpc::ServerBuilder builder;
    builder.SetContextAllocator(PeerContexts(sources_));
    builder.RegisterService(&witness_);
    credentials_ = credentials;
    if (!tcp.empty()) builder.AddListeningPort(tcp, credentials, &port_);
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    auto socket = UnixSocket::Bind(folder_ / "s");
    ASSERT_TRUE(socket.ok()) << socket.status();
    ASSERT_TRUE((*socket)->Publish({.mode = 0666, .group = {}}).ok());
    std::vector<std::unique_ptr<UnixSocket>> sockets;
    sockets.push_back(*std::move(socket));
    auto acceptor = UnixAcceptor::Start(
        std::move(sockets), sources_.unix_peers,
        {[this](int number) { grpc::AddInsecureChannelFromFd(server_.get(), number); },
         [](const std::string& warning) { ADD_FAILURE() << warning; }});
    ASSERT_TRUE(acceptor.ok()) << acceptor.status();
    acceptor_ = *std::move(acceptor);
  }
  // Calls; the key under which it was seen.
  std::string KeySeen(const std::shared_ptr<grpc::Channel>& channel) {
    grpc::ClientContext context;
    v1::ListJobsResponse response;
    const grpc::Status status =
        v1::JobService::NewStub(channel)->ListJobs(&context, v1::ListJobsRequest(), &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return witness_.key();
  }
  std::string LoopbackPort() const { return absl::StrCat("127.0.0.1:", port_); }
  // A connection to the unix socket that the user has made.
  int ConnectAs(uid_t user) {
    int descriptor = -1;
    // Of this thread alone, which then ends.
    std::thread([&] {
      if (syscall(SYS_setresuid, -1, user, -1) != 0) return;
      descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
      sockaddr_un name = {};
      name.sun_family = AF_UNIX;
      (folder_ / "s").copy(name.sun_path, sizeof(name.sun_path) - 1);
      if (connect(descriptor, reinterpret_cast<sockaddr*>(&name), sizeof name) != 0) {
        close(std::exchange(descriptor, -1));
      }
    }).join();
    return descriptor;
  }

  Folder folder_;
  PeerSources sources_;
  Witness witness_;
  int port_ = 0;
  // gRPC does not keep them.
  std::shared_ptr<grpc::ServerCredentials> credentials_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<UnixAcceptor> acceptor_;
};

TEST_F(PeerTest, AUserOfThisMachineIsKnownByTheKernelsWord) {
  Serve("", nullptr);
  EXPECT_EQ(
      KeySeen(grpc::CreateChannel("unix:" + folder_ / "s", grpc::InsecureChannelCredentials())),
      absl::StrCat("user:", getuid()));
  EXPECT_EQ(witness_.seen().kind, Peer::Kind::kUnix);
  EXPECT_EQ(witness_.seen().uid, getuid());
  EXPECT_EQ(witness_.seen().gid, getgid());
}

TEST_F(PeerTest, TwoUsersAreTwoPeersOnOneSocket) {
  if (getuid() != 0) GTEST_SKIP() << "only root can connect as somebody else";
  std::filesystem::permissions(folder_.path(), std::filesystem::perms(0755));
  Serve("", nullptr);
  const int descriptor = ConnectAs(kNobody);
  ASSERT_GE(descriptor, 0);
  const auto theirs = grpc::CreateInsecureChannelFromFd("nobody", descriptor);
  const auto mine =
      grpc::CreateChannel("unix:" + folder_ / "s", grpc::InsecureChannelCredentials());
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(KeySeen(theirs), absl::StrCat("user:", kNobody));
    EXPECT_EQ(KeySeen(mine), "user:0");
  }
}

TEST_F(PeerTest, OnPlainTcpOnlyTheAddressIsKnown) {
  Serve("127.0.0.1:0", grpc::InsecureServerCredentials());
  EXPECT_EQ(KeySeen(grpc::CreateChannel(LoopbackPort(), grpc::InsecureChannelCredentials())),
            "address:127.0.0.1");
  EXPECT_EQ(witness_.seen().address, "127.0.0.1");
}

TEST_F(PeerTest, AnIpv6AddressHasNeitherBracketsNorPort) {
  Serve("[::1]:0", grpc::InsecureServerCredentials());
  if (port_ == 0) GTEST_SKIP() << "there is no IPv6 here";
  EXPECT_EQ(KeySeen(grpc::CreateChannel(absl::StrCat("[::1]:", port_),
                                        grpc::InsecureChannelCredentials())),
            "address:::1");
}

TEST_F(PeerTest, OnTlsItIsTheCertificateOrElseTheToken) {
  if (!Certificates::CanBeMade()) GTEST_SKIP() << "the openssl command is not installed";
  Certificates certificates(folder_.path());
  certificates.MakeAuthority("ca");
  certificates.Make("server", "ca");
  certificates.Make("client", "ca", "backup-host");
  std::ofstream(folder_ / "tokens") << "robot " << kSecretHash << "\n";
  const auto tokens = Tokens::Create(folder_ / "tokens");
  ASSERT_TRUE(tokens.ok()) << tokens.status();
  sources_.tokens = *tokens;
  const auto tls =
      Tls::Create({folder_ / "server.pem", folder_ / "server.key", folder_ / "ca.pem"});
  ASSERT_TRUE(tls.ok()) << tls.status();
  Serve("127.0.0.1:0", (*tls)->Credentials(*tokens));
  EXPECT_EQ(KeySeen(grpc::CreateChannel(LoopbackPort(), certificates.Client("client"))),
            "certificate:backup-host");
  EXPECT_EQ(witness_.seen().address, "127.0.0.1");
  EXPECT_EQ(
      KeySeen(grpc::CreateChannel(
          LoopbackPort(), grpc::CompositeChannelCredentials(
                              certificates.Client(""), grpc::AccessTokenCredentials("secret")))),
      "token:robot");
  EXPECT_EQ(witness_.seen().kind, Peer::Kind::kToken);
}

}  // namespace
}  // namespace tidemark::rpc
