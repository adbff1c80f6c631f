// Where the server listens and whom it lets in.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/match.h"
#include "grpcpp/security/credentials.h"
#include "gtest/gtest.h"
#include "service/rpc/front_world.h"
#include "tidemark/block/v1/job.grpc.pb.h"

namespace tidemark::rpc {
namespace {

namespace v1 = ::tidemark::block::v1;

absl::StatusOr<std::unique_ptr<Server>> Listen(FrontWorld& world, const std::string& address,
                                               ServerOptions options = {}) {
  options.listen.push_back(*ParseListenAddress(address));
  return Server::Start(world.front, options);
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

TEST(Server, LoopbackNeedsNoTlsAndPortZeroIsAnyPort) {
  FrontWorld world;
  const auto server = Listen(world, "127.0.0.1:0");
  ASSERT_TRUE(server.ok()) << server.status();
  const std::string address = (*server)->addresses().at(0);
  EXPECT_TRUE(absl::StartsWith(address, "127.0.0.1:"));
  EXPECT_FALSE(absl::EndsWith(address, ":0"));
  EXPECT_TRUE(Call(address, grpc::InsecureChannelCredentials()).ok());
}

TEST(Server, APortInUseIsRefusedByName) {
  FrontWorld world;
  const auto first = Listen(world, "127.0.0.1:0");
  ASSERT_TRUE(first.ok()) << first.status();
  const std::string address = (*first)->addresses().at(0);
  const auto second = Listen(world, address);
  EXPECT_TRUE(absl::StrContains(second.status().message(), address)) << second.status();
}

TEST(Server, AnAddressThatOthersReachIsRefusedWithoutTls) {
  FrontWorld world;
  for (const char* address : {"0.0.0.0:0", "[::]:0"}) {
    const auto server = Listen(world, address);
    EXPECT_EQ(server.status().code(), absl::StatusCode::kInvalidArgument) << address;
    EXPECT_TRUE(absl::StrContains(server.status().message(), "--tls_cert")) << server.status();
  }
}

// Certificates made by the openssl command.
class TlsTest : public testing::Test {
 protected:
  void SetUp() override {
    if (std::system("openssl version > /dev/null 2>&1") != 0) {
      GTEST_SKIP() << "the openssl command is not installed";
    }
    MakeAuthority("ca");
    MakeAuthority("other_ca");
    MakeCertificate("server", "ca");
    MakeCertificate("client", "ca");
    MakeCertificate("stranger", "other_ca");
  }
  void Run(const std::string& command) {
    ASSERT_EQ(std::system(("cd " + folder_.path() + " && " + command + " 2> /dev/null").c_str()), 0)
        << command;
  }
  void MakeAuthority(const std::string& name) {
    Run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "
        "/CN=" +
        name + " -keyout " + name + ".key -out " + name + ".pem");
  }
  void MakeCertificate(const std::string& name, const std::string& authority) {
    Run("openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost "
        "-keyout " +
        name + ".key -out " + name +
        ".csr && printf 'subjectAltName=DNS:localhost,IP:127.0.0.1' > " + name +
        ".ext && openssl x509 -req -in " + name + ".csr -CA " + authority + ".pem -CAkey " +
        authority + ".key -CAcreateserial -days 2 -extfile " + name + ".ext -out " + name + ".pem");
  }
  std::string Text(const std::string& name) {
    std::ifstream file(folder_ / name);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }
  ServerOptions Options() {
    ServerOptions options;
    options.tls_cert = folder_ / "server.pem";
    options.tls_key = folder_ / "server.key";
    return options;
  }
  std::shared_ptr<grpc::ChannelCredentials> Client(const std::string& name) {
    grpc::SslCredentialsOptions options;
    options.pem_root_certs = Text("ca.pem");
    if (!name.empty()) {
      options.pem_cert_chain = Text(name + ".pem");
      options.pem_private_key = Text(name + ".key");
    }
    return grpc::SslCredentials(options);
  }

  Folder folder_;
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
  ServerOptions options = Options();
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
  grpc::SslCredentialsOptions of_other;
  of_other.pem_root_certs = Text("other_ca.pem");
  EXPECT_TRUE(Call(address, grpc::SslCredentials(of_other)).ok());
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
