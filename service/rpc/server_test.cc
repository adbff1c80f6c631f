// Where the server listens and whom it lets in.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/security/credentials.h"
#include "gtest/gtest.h"
#include "service/rpc/certificates.h"
#include "service/rpc/front_world.h"
#include "tidemark/block/v1/event.grpc.pb.h"
#include "tidemark/block/v1/job.grpc.pb.h"

namespace tidemark::rpc {
namespace {

namespace v1 = ::tidemark::block::v1;

// Of the tokens "secret" and "other".
constexpr char kSecretHash[] = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
constexpr char kOtherHash[] = "d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa";

absl::StatusOr<std::unique_ptr<Server>> Listen(FrontWorld& world, const std::string& address,
                                               ServerOptions options = {}) {
  options.listen.push_back(*ParseListenAddress(address));
  absl::StatusOr<Guard> guard = ReadGuard(options);
  if (!guard.ok()) return guard.status();
  return Server::Start(world.front, options, *std::move(guard));
}

grpc::Status Call(const std::string& address,
                  const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
  const auto channel = grpc::CreateChannel(address, credentials);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  v1::ListJobsResponse response;
  return v1::JobService::NewStub(channel)->ListJobs(&context, v1::ListJobsRequest(), &response);
}

TEST(Server, AUnixSocketIsForItsOwnerOnlyAndGoesWithTheServer) {
  FrontWorld world;
  const std::string path = world.folder / "mine";
  auto server = Listen(world, "unix:" + path);
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_EQ((*server)->addresses(), std::vector<std::string>{"unix:" + path});
  struct stat info;
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_TRUE(S_ISSOCK(info.st_mode));
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  EXPECT_TRUE(Call("unix:" + path, grpc::InsecureChannelCredentials()).ok());
  (*server)->Stop();
  EXPECT_NE(stat(path.c_str(), &info), 0);
  size_t left = 0;
  for (const auto& entry : std::filesystem::directory_iterator(world.folder.path())) {
    left += entry.path().filename() != "s";
  }
  EXPECT_EQ(left, 0u) << "nothing but the world's own socket is left in the folder";
}

TEST(Server, ASocketOnWhichADaemonAnswersIsNotTaken) {
  FrontWorld world;
  const auto second = Listen(world, "unix:" + world.folder / "s");
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(absl::StrContains(second.status().message(), world.folder / "s"));
  EXPECT_TRUE(Call("unix:" + world.folder / "s", grpc::InsecureChannelCredentials()).ok());
}

TEST(Server, ASocketLeftByAKilledDaemonIsReplaced) {
  FrontWorld world;
  const std::string path = world.folder / "stale";
  const int descriptor = socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un name = {};
  name.sun_family = AF_UNIX;
  path.copy(name.sun_path, sizeof(name.sun_path) - 1);
  ASSERT_EQ(bind(descriptor, reinterpret_cast<sockaddr*>(&name), sizeof name), 0);
  close(descriptor);
  const auto server = Listen(world, "unix:" + path);
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_TRUE(Call("unix:" + path, grpc::InsecureChannelCredentials()).ok());
}

TEST(Server, AFileThatIsNoSocketIsNotReplaced) {
  FrontWorld world;
  std::ofstream(world.folder / "precious") << "data";
  EXPECT_FALSE(Listen(world, "unix:" + world.folder / "precious").ok());
  EXPECT_TRUE(std::filesystem::exists(world.folder / "precious"));
}

TEST(Server, AFolderThatIsNotThereIsNamed) {
  FrontWorld world;
  const auto server = Listen(world, "unix:" + world.folder / "no/socket");
  EXPECT_TRUE(absl::StrContains(server.status().message(), world.folder / "no/socket"));
}

TEST(Server, AConnectionWithoutACallIsClosedAfterAWhile) {
  FrontWorld world;
  ServerOptions options;
  options.connection_idle_max = absl::Milliseconds(50);
  const auto server = Listen(world, "unix:" + world.folder / "idle", options);
  ASSERT_TRUE(server.ok()) << server.status();
  const auto channel =
      grpc::CreateChannel("unix:" + world.folder / "idle", grpc::InsecureChannelCredentials());
  grpc::ClientContext context;
  v1::ListJobsResponse response;
  ASSERT_TRUE(
      v1::JobService::NewStub(channel)->ListJobs(&context, v1::ListJobsRequest(), &response).ok());
  // A channel whose connection has ended, and that is not asked for another, is idle.
  const auto give_up = std::chrono::system_clock::now() + std::chrono::seconds(30);
  for (auto state = channel->GetState(false); state != GRPC_CHANNEL_IDLE;
       state = channel->GetState(false)) {
    ASSERT_TRUE(channel->WaitForStateChange(state, give_up)) << "it is still open";
  }
}

TEST(Server, AConnectionThatIsTooOldIsClosedAndItsCallsHaveAWhileToEnd) {
  FrontWorld world;
  ServerOptions options;
  options.connection_age_max = absl::Milliseconds(50);
  options.connection_age_grace = absl::Milliseconds(50);
  const auto server = Listen(world, "unix:" + world.folder / "old", options);
  ASSERT_TRUE(server.ok()) << server.status();
  const auto channel =
      grpc::CreateChannel("unix:" + world.folder / "old", grpc::InsecureChannelCredentials());
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  const auto stream =
      v1::EventService::NewStub(channel)->WatchEvents(&context, v1::WatchEventsRequest());
  v1::WatchEventsResponse response;
  EXPECT_TRUE(stream->Read(&response)) << "its first heartbeat";
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_TRUE(Eventually([&] { return world.streams.size() == 0; }));
}

ServerOptions Insecure() {
  ServerOptions options;
  options.insecure = true;
  return options;
}

TEST(Server, PortZeroIsAnyPort) {
  FrontWorld world;
  const auto server = Listen(world, "127.0.0.1:0", Insecure());
  ASSERT_TRUE(server.ok()) << server.status();
  const std::string address = (*server)->addresses().at(0);
  EXPECT_TRUE(absl::StartsWith(address, "127.0.0.1:"));
  EXPECT_FALSE(absl::EndsWith(address, ":0"));
  EXPECT_TRUE(Call(address, grpc::InsecureChannelCredentials()).ok());
}

TEST(Server, APortInUseIsRefusedByName) {
  FrontWorld world;
  const auto first = Listen(world, "127.0.0.1:0", Insecure());
  ASSERT_TRUE(first.ok()) << first.status();
  const std::string address = (*first)->addresses().at(0);
  const auto second = Listen(world, address, Insecure());
  EXPECT_TRUE(absl::StrContains(second.status().message(), address)) << second.status();
}

TEST(Server, ATcpAddressWhoseClientsNobodyAsksIsRefused) {
  FrontWorld world;
  for (const char* address : {"127.0.0.1:0", "[::1]:0", "localhost:0", "0.0.0.0:0", "[::]:0"}) {
    const auto server = Listen(world, address);
    EXPECT_EQ(server.status().code(), absl::StatusCode::kInvalidArgument) << address;
    for (const char* said : {address, "--tls_cert", "--token_file", "unix:", "--insecure"}) {
      EXPECT_TRUE(absl::StrContains(server.status().message(), said)) << server.status();
    }
  }
}

TEST(Server, AUnixSocketHasTheModeAndTheGroupThatAreSaid) {
  FrontWorld world;
  ServerOptions options;
  options.sockets.mode = 0660;
  options.sockets.group = getgid();
  const auto server = Listen(world, "unix:" + world.folder / "ours", options);
  ASSERT_TRUE(server.ok()) << server.status();
  struct stat info;
  ASSERT_EQ(stat((world.folder / "ours").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0660u);
  EXPECT_EQ(info.st_gid, getgid());
}

TEST(Server, AGroupHasANameOrANumber) {
  EXPECT_EQ(*FindGroup("root"), 0u);
  EXPECT_EQ(*FindGroup("65534"), 65534u);
  EXPECT_TRUE(absl::StrContains(FindGroup("no-such-group").status().message(), "no-such-group"));
}

// A file that another daemon has put there meanwhile is not this server's to remove.
TEST(Server, AServerThatStopsRemovesItsOwnSocketOnly) {
  FrontWorld world;
  const std::string path = world.folder / "mine";
  auto server = Listen(world, "unix:" + path);
  ASSERT_TRUE(server.ok()) << server.status();
  std::filesystem::remove(path);
  std::ofstream(path) << "of another";
  (*server)->Stop();
  EXPECT_TRUE(std::filesystem::exists(path));
}

TEST(Server, ClientsThatComeAndGoLeaveNoDescriptors) {
  FrontWorld world;
  const auto count = [] {
    const std::filesystem::directory_iterator all("/proc/self/fd");
    return std::distance(begin(all), end(all));
  };
  const auto call = [&world](int i) {
    grpc::ChannelArguments arguments;
    arguments.SetInt("tidemark.test", i);
    const auto channel = grpc::CreateCustomChannel("unix:" + world.folder / "s",
                                                   grpc::InsecureChannelCredentials(), arguments);
    grpc::ClientContext context;
    v1::ListJobsResponse response;
    return v1::JobService::NewStub(channel)->ListJobs(&context, v1::ListJobsRequest(), &response);
  };
  ASSERT_TRUE(call(0).ok());
  const auto before = count();
  for (int i = 1; i <= 50; ++i) ASSERT_TRUE(call(i).ok());
  EXPECT_TRUE(Eventually([&] { return count() <= before + 1; })) << before << " -> " << count();
}

class TlsTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!Certificates::CanBeMade()) GTEST_SKIP() << "the openssl command is not installed";
    certificates_.MakeAuthority("ca");
    certificates_.MakeAuthority("other_ca");
    certificates_.Make("server", "ca");
    certificates_.Make("client", "ca");
    certificates_.Make("stranger", "other_ca");
  }
  void Run(const std::string& command) { certificates_.Run(command); }
  // Of a server that asks its clients for nothing.
  ServerOptions Options() {
    ServerOptions options = Guarded();
    options.insecure = true;
    return options;
  }
  // Of one whose guard is still to be added.
  ServerOptions Guarded() {
    ServerOptions options;
    options.tls_cert = folder_ / "server.pem";
    options.tls_key = folder_ / "server.key";
    return options;
  }
  // Of "secret" and "other".
  void WriteTokens(const std::string& text) { std::ofstream(folder_ / "tokens") << text; }
  std::shared_ptr<grpc::ChannelCredentials> Client(const std::string& name,
                                                   const std::string& token = "") {
    const auto tls = certificates_.Client(name);
    if (token.empty()) return tls;
    return grpc::CompositeChannelCredentials(tls, grpc::AccessTokenCredentials(token));
  }

  Folder folder_;
  Certificates certificates_{folder_.path()};
  FrontWorld world_;
};

TEST_F(TlsTest, WithACertificateAnyAddressSpeaksTlsOnly) {
  const auto server = Listen(world_, "0.0.0.0:0", Options());
  ASSERT_TRUE(server.ok()) << server.status();
  const std::string address = (*server)->addresses().at(0);
  const std::string port = address.substr(address.rfind(':'));
  EXPECT_TRUE(Call("127.0.0.1" + port, Client("")).ok());
  EXPECT_FALSE(Call("127.0.0.1" + port, grpc::InsecureChannelCredentials()).ok());
}

TEST_F(TlsTest, WithAClientAuthorityOnlyItsClientsGetIn) {
  ServerOptions options = Guarded();
  options.tls_client_ca = folder_ / "ca.pem";
  const auto server = Listen(world_, "127.0.0.1:0", options);
  ASSERT_TRUE(server.ok()) << server.status();
  const std::string address = (*server)->addresses().at(0);
  EXPECT_TRUE(Call(address, Client("client")).ok());
  EXPECT_FALSE(Call(address, Client("")).ok()) << "no certificate";
  EXPECT_FALSE(Call(address, Client("stranger")).ok()) << "signed by somebody else";
}

TEST_F(TlsTest, FilesAreReadAnewAndOnesThatCannotBeUsedChangeNothing) {
  const auto server = Listen(world_, "127.0.0.1:0", Options());
  ASSERT_TRUE(server.ok()) << server.status();
  const std::string address = (*server)->addresses().at(0);
  ASSERT_TRUE(Call(address, Client("")).ok());
  // Signed by an authority that the client does not know; it is asked for only at a handshake.
  Run("cp stranger.pem server.pem");
  const absl::Status half = (*server)->tls()->Reload();
  EXPECT_EQ(half.code(), absl::StatusCode::kInvalidArgument) << "the key is that of another";
  EXPECT_TRUE(absl::StrContains(half.message(), folder_ / "server.key")) << half;
  EXPECT_TRUE(Call(address, Client("")).ok());
  Run("cp stranger.key server.key");
  EXPECT_TRUE((*server)->tls()->Reload().ok());
  EXPECT_FALSE(Call(address, Client("")).ok());
  EXPECT_TRUE(Call(address, certificates_.Client("", "other_ca")).ok());
}

TEST_F(TlsTest, ATlsFileThatHoldsTheWrongThingIsNamed) {
  for (const auto& [cert, key] :
       std::vector<std::pair<std::string, std::string>>{{"server.key", "server.key"},
                                                        {"server.pem", "server.pem"},
                                                        {"server.pem", "client.key"}}) {
    ServerOptions options = Options();
    options.tls_cert = folder_ / cert;
    options.tls_key = folder_ / key;
    const absl::Status status = Listen(world_, "127.0.0.1:0", options).status();
    EXPECT_TRUE(absl::StrContains(status.message(), folder_ / (cert == "server.key" ? cert : key)))
        << status;
  }
}

TEST_F(TlsTest, FilesThatCannotBeUsedAreNamed) {
  ServerOptions missing = Options();
  missing.tls_key = folder_ / "nothing.key";
  EXPECT_TRUE(absl::StrContains(Listen(world_, "127.0.0.1:0", missing).status().message(),
                                folder_ / "nothing.key"));
  ServerOptions no_pem = Options();
  no_pem.tls_client_ca = folder_ / "server.ext";
  EXPECT_TRUE(absl::StrContains(Listen(world_, "127.0.0.1:0", no_pem).status().message(),
                                folder_ / "server.ext"));
  ServerOptions alone = Options();
  alone.tls_key = "";
  EXPECT_FALSE(Listen(world_, "127.0.0.1:0", alone).ok());
}

TEST_F(TlsTest, TlsThatAsksItsClientsForNothingIsRefused) {
  const absl::Status status = Listen(world_, "127.0.0.1:0", Guarded()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StrContains(status.message(), "--token_file")) << status;
}

TEST_F(TlsTest, WithTokensEachCallNeedsOne) {
  WriteTokens(std::string("me ") + kSecretHash);
  ServerOptions options = Guarded();
  options.token_file = folder_ / "tokens";
  const auto server = Listen(world_, "127.0.0.1:0", options);
  ASSERT_TRUE(server.ok()) << server.status();
  const std::string address = (*server)->addresses().at(0);
  EXPECT_TRUE(Call(address, Client("", "secret")).ok());
  const grpc::Status without = Call(address, Client(""));
  EXPECT_EQ(without.error_code(), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_TRUE(absl::StrContains(without.error_message(), "authorization: Bearer"))
      << without.error_message();
  const grpc::Status wrong = Call(address, Client("", "other"));
  EXPECT_EQ(wrong.error_code(), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_TRUE(absl::StrContains(wrong.error_message(), "--token_file")) << wrong.error_message();
  EXPECT_EQ(Call(address, Client("client")).error_code(), grpc::StatusCode::UNAUTHENTICATED)
      << "nobody has asked for a certificate";
  // One connection, calls of several.
  const auto channel = grpc::CreateChannel(address, Client(""));
  for (const bool has_token : {true, false, true, false}) {
    grpc::ClientContext context;
    if (has_token) context.AddMetadata("authorization", "Bearer secret");
    v1::ListJobsResponse response;
    const grpc::Status status =
        v1::JobService::NewStub(channel)->ListJobs(&context, v1::ListJobsRequest(), &response);
    EXPECT_EQ(status.ok(), has_token) << status.error_message();
  }
}

TEST_F(TlsTest, HealthReflectionAndWhatIsNotThereNeedATokenToo) {
  WriteTokens(std::string("me ") + kSecretHash);
  ServerOptions options = Guarded();
  options.token_file = folder_ / "tokens";
  const auto server = Listen(world_, "127.0.0.1:0", options);
  ASSERT_TRUE(server.ok()) << server.status();
  const auto code = [&](const std::string& method, const std::string& token) {
    grpc::GenericStub stub(grpc::CreateChannel((*server)->addresses().at(0), Client("", token)));
    grpc::ClientContext context;
    grpc::CompletionQueue queue;
    grpc::ByteBuffer response;
    const grpc::Slice nothing;
    const auto call =
        stub.PrepareUnaryCall(&context, method, grpc::ByteBuffer(&nothing, 1), &queue);
    call->StartCall();
    grpc::Status status;
    call->Finish(&response, &status, nullptr);
    void* tag;
    bool ok;
    queue.Next(&tag, &ok);
    return status.error_code();
  };
  for (const char* method : {"/grpc.health.v1.Health/Check",
                             "/grpc.reflection.v1alpha.ServerReflection/"
                             "ServerReflectionInfo",
                             "/tidemark.block.v1.NodeService/QueryBlock", "/no.such/Method"}) {
    EXPECT_EQ(code(method, ""), grpc::StatusCode::UNAUTHENTICATED) << method;
    EXPECT_NE(code(method, "secret"), grpc::StatusCode::UNAUTHENTICATED) << method;
  }
  EXPECT_EQ(code("/grpc.health.v1.Health/Check", "secret"), grpc::StatusCode::OK);
}

TEST_F(TlsTest, WithTokensAndAClientAuthorityEitherWillDo) {
  WriteTokens(std::string("me ") + kSecretHash);
  ServerOptions options = Guarded();
  options.token_file = folder_ / "tokens";
  options.tls_client_ca = folder_ / "ca.pem";
  const auto server = Listen(world_, "127.0.0.1:0", options);
  ASSERT_TRUE(server.ok()) << server.status();
  const std::string address = (*server)->addresses().at(0);
  EXPECT_TRUE(Call(address, Client("client")).ok());
  EXPECT_TRUE(Call(address, Client("", "secret")).ok());
  EXPECT_TRUE(Call(address, Client("client", "other")).ok()) << "the certificate is enough";
  EXPECT_EQ(Call(address, Client("")).error_code(), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_FALSE(Call(address, Client("stranger", "secret")).ok()) << "a certificate of others";
}

TEST_F(TlsTest, TokensAreReadAnewAndABadFileChangesNothing) {
  WriteTokens(std::string("me ") + kSecretHash);
  ServerOptions options = Guarded();
  options.token_file = folder_ / "tokens";
  const auto server = Listen(world_, "127.0.0.1:0", options);
  ASSERT_TRUE(server.ok()) << server.status();
  const std::string address = (*server)->addresses().at(0);
  const auto kept = Client("", "secret");
  ASSERT_TRUE(Call(address, kept).ok());
  WriteTokens("me secret");
  EXPECT_FALSE((*server)->tokens()->Reload().ok());
  EXPECT_TRUE(Call(address, kept).ok());
  WriteTokens(std::string("me ") + kOtherHash);
  EXPECT_TRUE((*server)->tokens()->Reload().ok());
  EXPECT_EQ(Call(address, kept).error_code(), grpc::StatusCode::UNAUTHENTICATED)
      << "also on a connection that is there";
  EXPECT_TRUE(Call(address, Client("", "other")).ok());
}

TEST_F(TlsTest, TokensAreNotTakenWithoutTls) {
  WriteTokens(std::string("me ") + kSecretHash);
  ServerOptions options = Insecure();
  options.token_file = folder_ / "tokens";
  const absl::Status status = Listen(world_, "127.0.0.1:0", options).status();
  EXPECT_TRUE(absl::StrContains(status.message(), "--tls_cert")) << status;
}

TEST(ListenAddress, IsAUnixPathOrHostAndPort) {
  EXPECT_EQ(ParseListenAddress("unix:/a/b")->socket_path, "/a/b");
  EXPECT_EQ(ParseListenAddress("localhost:5")->host, "localhost");
  EXPECT_EQ(ParseListenAddress("[::1]:5")->host, "::1");
  EXPECT_EQ(ParseListenAddress("[::1]:5")->port, "5");
  for (const std::string& bad :
       {std::string(""), std::string("unix:"), std::string("host"), std::string(":5"),
        std::string("host:"), std::string("host:x"), std::string("host:65536"),
        std::string("host:-1"), std::string("::1:5"), std::string("[::1:5"),
        "unix:/" + std::string(200, 'x')}) {
    EXPECT_EQ(ParseListenAddress(bad).status().code(), absl::StatusCode::kInvalidArgument) << bad;
  }
}

}  // namespace
}  // namespace tidemark::rpc
