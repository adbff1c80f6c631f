// Who may connect to the daemon, and who may not.
#include <gmock/gmock.h>
#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "service/rpc/certificates.h"
#include "tests/support/daemon.h"
#include "tests/support/process.h"
#include "tests/support/temp_folder.h"
#include "tidemark/block/v1/job.grpc.pb.h"

namespace tidemark::test {
namespace {

namespace v1 = ::tidemark::block::v1;
using ::testing::HasSubstr;
using ::testing::Not;

// Of the tokens "secret" and "other".
constexpr char kSecretHash[] = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
constexpr char kOtherHash[] = "d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa";
constexpr uid_t kNobody = 65534;

grpc::Status Call(const std::string& address,
                  const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
  const auto channel = grpc::CreateChannel(address, credentials);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  v1::ListJobsResponse response;
  return v1::JobService::NewStub(channel)->ListJobs(&context, v1::ListJobsRequest(), &response);
}

// Whether `condition` comes true while the daemon runs.
template <typename Condition>
bool Eventually(Daemon& daemon, Condition condition) {
  while (!condition()) {
    if (!daemon.process().running()) return false;
    absl::SleepFor(absl::Milliseconds(10));
  }
  return true;
}

class GuardTest : public testing::Test {
 protected:
  std::unique_ptr<Daemon> Start(const std::vector<std::string>& flags) {
    auto daemon = std::make_unique<Daemon>(&folder_, flags);
    EXPECT_TRUE(daemon->started()) << daemon->Log();
    return daemon;
  }
  // What it says as it refuses to start.
  std::string Refusal(const std::vector<std::string>& flags) {
    Daemon daemon(&folder_, flags);
    EXPECT_FALSE(daemon.started());
    EXPECT_NE(daemon.process().Wait(absl::Seconds(60)).value_or(0), 0);
    return daemon.Log();
  }
  // The address on 127.0.0.1 that it has told.
  static std::string LoopbackOf(const Daemon& daemon) {
    const std::string log = daemon.Log();
    const size_t begin = log.rfind("listening on 127.0.0.1:");
    EXPECT_NE(begin, std::string::npos) << log;
    const size_t host = begin + std::string("listening on ").size();
    return log.substr(host, log.find('\n', host) - host);
  }
  // What connecting to the socket as that user comes to: 0, or errno.
  static int ConnectAs(uid_t user, const std::string& path) {
    int error = -1;
    // Of this thread alone, which then ends.
    std::thread([&] {
      if (syscall(SYS_setresuid, -1, user, -1) != 0) return;
      const int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
      sockaddr_un name = {};
      name.sun_family = AF_UNIX;
      path.copy(name.sun_path, sizeof(name.sun_path) - 1);
      error = connect(descriptor, reinterpret_cast<sockaddr*>(&name), sizeof name) == 0 ? 0 : errno;
      close(descriptor);
    }).join();
    return error;
  }

  const TempFolder folder_;
};

TEST_F(GuardTest, LoopbackIsNoPassword) {
  for (const char* address : {"127.0.0.1:0", "[::1]:0", "localhost:0", "0.0.0.0:0"}) {
    const std::string said = Refusal({absl::StrCat("--listen=", address)});
    for (const char* part :
         {address, "--tls_cert", "--tls_client_ca", "--token_file", "unix:", "--insecure"}) {
      EXPECT_THAT(said, HasSubstr(part));
    }
  }
}

TEST_F(GuardTest, WhoWantsItInsecureHasItAndIsWarned) {
  const auto daemon = Start({"--listen=127.0.0.1:0", "--insecure"});
  EXPECT_TRUE(Call(LoopbackOf(*daemon), grpc::InsecureChannelCredentials()).ok());
  EXPECT_THAT(daemon->Log(), HasSubstr("warning: --insecure"));
  EXPECT_THAT(daemon->Log(), HasSubstr("127.0.0.1:0"));
  EXPECT_EQ(daemon->Stop(), 0);
}

TEST_F(GuardTest, AUnixSocketIsForItsUserUnlessItIsSaidForWhom) {
  if (getuid() != 0) GTEST_SKIP() << "only root can connect as somebody else";
  ASSERT_EQ(chmod(folder_.path().c_str(), 0755), 0);
  const std::string path = folder_.File("tidemarkd.sock");
  {
    const auto daemon = Start({});
    EXPECT_EQ(ConnectAs(kNobody, path), EACCES);
    EXPECT_EQ(ConnectAs(0, path), 0);
    EXPECT_EQ(daemon->Stop(), 0);
  }
  const auto daemon = Start({"--listen_mode=0666", "--listen_group=65534"});
  EXPECT_EQ(ConnectAs(kNobody, path), 0);
  struct stat info;
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0666u);
  EXPECT_EQ(info.st_gid, 65534u);
  EXPECT_EQ(daemon->Stop(), 0);
}

TEST_F(GuardTest, AGroupWithoutAModeMayReadAndWrite) {
  if (getuid() != 0) GTEST_SKIP() << "only root can give a socket to any group";
  const auto daemon = Start({"--listen_group=65534"});
  struct stat info;
  ASSERT_EQ(stat(folder_.File("tidemarkd.sock").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0660u);
}

TEST_F(GuardTest, AGroupThatIsNotThereIsNamed) {
  EXPECT_THAT(Refusal({"--listen_group=no-such-group"}), HasSubstr("no-such-group"));
}

class TlsGuardTest : public GuardTest {
 protected:
  void SetUp() override {
    if (!rpc::Certificates::CanBeMade()) GTEST_SKIP() << "the openssl command is not installed";
    certificates_.MakeAuthority("ca");
    certificates_.Make("server", "ca");
    certificates_.Make("client", "ca", "backup-host");
    WriteFile(folder_.File("tokens"), absl::StrCat("# robots\nrobot ", kSecretHash, "\n"));
  }
  std::vector<std::string> Flags(const std::vector<std::string>& more) {
    std::vector<std::string> flags = {"--listen=127.0.0.1:0",
                                      "--tls_cert=" + folder_.File("server.pem"),
                                      "--tls_key=" + folder_.File("server.key")};
    flags.insert(flags.end(), more.begin(), more.end());
    return flags;
  }
  std::string TokenFlag() const { return "--token_file=" + folder_.File("tokens"); }
  std::string AuthorityFlag() const { return "--tls_client_ca=" + folder_.File("ca.pem"); }
  std::shared_ptr<grpc::ChannelCredentials> WithToken(const std::string& token) {
    return grpc::CompositeChannelCredentials(certificates_.Client(""),
                                             grpc::AccessTokenCredentials(token));
  }
  // `tidemark list-jobs` over TLS.
  ToolResult Tidemark(const std::string& address, const std::vector<std::string>& flags) {
    std::vector<std::string> command = {
        absl::StrCat(getenv("TEST_SRCDIR"), "/", getenv("TEST_WORKSPACE"), "/service/cli/tidemark"),
        "--address",
        address,
        "--tls_ca",
        folder_.File("ca.pem"),
        "list-jobs"};
    command.insert(command.end(), flags.begin(), flags.end());
    return RunTool(command);
  }

  rpc::Certificates certificates_{folder_.path()};
};

TEST_F(TlsGuardTest, TlsThatAsksNobodyIsRefused) {
  EXPECT_THAT(Refusal(Flags({})), HasSubstr("--token_file"));
}

TEST_F(TlsGuardTest, AClientWithATokenGetsInAndOthersAreToldWhatIsMissing) {
  const auto daemon = Start(Flags({TokenFlag()}));
  const std::string address = LoopbackOf(*daemon);
  EXPECT_TRUE(Call(address, WithToken("secret")).ok());
  const grpc::Status without = Call(address, certificates_.Client(""));
  EXPECT_EQ(without.error_code(), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_THAT(without.error_message(), HasSubstr("authorization: Bearer TOKEN"));
  EXPECT_EQ(Call(address, WithToken("other")).error_code(), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_FALSE(Call(address, grpc::InsecureChannelCredentials()).ok());
  EXPECT_TRUE(Call(daemon->address(), grpc::InsecureChannelCredentials()).ok())
      << "the unix socket has its own guard";
  EXPECT_THAT(daemon->Log(), Not(HasSubstr("secret")));
}

TEST_F(TlsGuardTest, TheCommandLineSendsATokenFromAFileOrTheEnvironment) {
  const auto daemon = Start(Flags({TokenFlag()}));
  const std::string address = LoopbackOf(*daemon);
  WriteFile(folder_.File("mine"), "secret\n");
  const ToolResult good = Tidemark(address, {"--token_file", folder_.File("mine")});
  EXPECT_EQ(good.exit_status, 0) << good.errors;
  const ToolResult none = Tidemark(address, {});
  EXPECT_EQ(none.exit_status, 1);
  EXPECT_THAT(none.errors, HasSubstr("authorization: Bearer TOKEN"));
  ASSERT_EQ(setenv("TIDEMARK_TOKEN", "secret", 1), 0);
  EXPECT_EQ(Tidemark(address, {}).exit_status, 0);
  ASSERT_EQ(unsetenv("TIDEMARK_TOKEN"), 0);
  WriteFile(folder_.File("mine"), "two words\n");
  EXPECT_THAT(Tidemark(address, {"--token_file", folder_.File("mine")}).errors,
              HasSubstr(folder_.File("mine")));
}

TEST_F(TlsGuardTest, AClientWithACertificateGetsIn) {
  const auto daemon = Start(Flags({AuthorityFlag()}));
  const std::string address = LoopbackOf(*daemon);
  EXPECT_TRUE(Call(address, certificates_.Client("client")).ok());
  EXPECT_FALSE(Call(address, certificates_.Client("")).ok());
  EXPECT_FALSE(Call(address, WithToken("secret")).ok()) << "there are no tokens";
}

TEST_F(TlsGuardTest, WithBothEitherWillDo) {
  const auto daemon = Start(Flags({AuthorityFlag(), TokenFlag()}));
  const std::string address = LoopbackOf(*daemon);
  EXPECT_TRUE(Call(address, certificates_.Client("client")).ok());
  EXPECT_TRUE(Call(address, WithToken("secret")).ok());
  EXPECT_EQ(Call(address, certificates_.Client("")).error_code(),
            grpc::StatusCode::UNAUTHENTICATED);
}

TEST_F(TlsGuardTest, TokensAreReadAnewOnHupAndABadFileChangesNothing) {
  const auto daemon = Start(Flags({TokenFlag()}));
  const std::string address = LoopbackOf(*daemon);
  WriteFile(folder_.File("tokens"), "robot other\n");
  daemon->process().Signal(SIGHUP);
  ASSERT_TRUE(Eventually(*daemon, [&] {
    return daemon->Log().find("what was read before stays in use") != std::string::npos;
  }));
  EXPECT_TRUE(Call(address, WithToken("secret")).ok());
  WriteFile(folder_.File("tokens"), absl::StrCat("robot ", kOtherHash, "\n"));
  daemon->process().Signal(SIGHUP);
  ASSERT_TRUE(Eventually(*daemon, [&] { return Call(address, WithToken("other")).ok(); }));
  EXPECT_EQ(Call(address, WithToken("secret")).error_code(), grpc::StatusCode::UNAUTHENTICATED);
}

TEST_F(TlsGuardTest, CertificatesAreReadAnewOnHup) {
  const auto daemon = Start(Flags({TokenFlag()}));
  const std::string address = LoopbackOf(*daemon);
  const auto call = [&](const std::string& authority) {
    return Call(address, grpc::CompositeChannelCredentials(certificates_.Client("", authority),
                                                           grpc::AccessTokenCredentials("secret")))
        .ok();
  };
  certificates_.MakeAuthority("new_ca");
  certificates_.Make("new", "new_ca");
  ASSERT_TRUE(call("ca"));
  ASSERT_FALSE(call("new_ca"));
  // Half of it does not fit the other, and changes nothing.
  certificates_.Run("cp new.pem server.pem");
  daemon->process().Signal(SIGHUP);
  ASSERT_TRUE(Eventually(*daemon, [&] {
    return daemon->Log().find("what was read before stays in use") != std::string::npos;
  }));
  EXPECT_TRUE(call("ca"));
  certificates_.Run("cp new.key server.key");
  daemon->process().Signal(SIGHUP);
  // A connection that is made from now on is shown the new certificate.
  ASSERT_TRUE(Eventually(*daemon, [&] { return call("new_ca"); }));
  EXPECT_FALSE(call("ca"));
  EXPECT_EQ(daemon->Stop(), 0);
}

TEST_F(TlsGuardTest, ATokenFileThatCannotBeUsedIsNamed) {
  WriteFile(folder_.File("tokens"), "robot hunter2\n");
  const std::string said = Refusal(Flags({TokenFlag()}));
  EXPECT_THAT(said, HasSubstr(folder_.File("tokens")));
  EXPECT_THAT(said, HasSubstr("line 1"));
  EXPECT_THAT(said, Not(HasSubstr("hunter2")));
}

}  // namespace
}  // namespace tidemark::test
