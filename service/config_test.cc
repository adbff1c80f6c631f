#include "service/config.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "adapters/qmp/limits.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark {
namespace {

using ::testing::ElementsAre;

absl::optional<std::string> NoEnvironment(absl::string_view) { return absl::nullopt; }

absl::StatusOr<Config> Parse(const std::vector<std::string>& arguments) {
  return ParseConfig(arguments, NoEnvironment);
}

// The message of the refusal.
std::string Refusal(const std::vector<std::string>& arguments) {
  const absl::StatusOr<Config> config = Parse(arguments);
  return config.ok() ? "accepted" : std::string(config.status().message());
}

TEST(Config, HelpSaysHowLongQemuMayBeSilent) {
  EXPECT_TRUE(absl::StrContains(
      HelpText(), absl::StrCat("Default: ", absl::ToInt64Seconds(qmp::kSilenceMax), ".\n")));
}

TEST(Config, WithoutFlagsThereIsOneUnixSocket) {
  const absl::StatusOr<Config> config = Parse({});
  ASSERT_TRUE(config.ok()) << config.status();
  ASSERT_EQ(config->listen.size(), 1u);
  EXPECT_EQ(config->listen[0].socket_path, "/run/tidemark/tidemark.sock");
  EXPECT_EQ(config->action, Config::Action::kServe);
}

TEST(Config, AValueFollowsItsFlagOrAnEqualsSign) {
  const absl::StatusOr<Config> config =
      Parse({"--listen", "unix:/a", "--listen=localhost:1", "--insecure", "--image_root=/i",
             "--image-root", "/j", "--state_dir", "/s", "--startup=/f"});
  ASSERT_TRUE(config.ok()) << config.status();
  ASSERT_EQ(config->listen.size(), 2u);
  EXPECT_EQ(config->listen[0].socket_path, "/a");
  EXPECT_EQ(config->listen[1].host, "localhost");
  EXPECT_THAT(config->image_roots, ElementsAre("/i", "/j"));
  EXPECT_EQ(config->state_dir, "/s");
  EXPECT_EQ(config->startup_file, "/f");
}

TEST(Config, MemoryIsGivenInBytesOrPowersOf1024) {
  EXPECT_EQ(Parse({})->memory_bytes_max, DefaultMemoryMax());
  EXPECT_EQ(Parse({"--memory_max=134217728"})->memory_bytes_max, uint64_t{128} << 20);
  EXPECT_EQ(Parse({"--memory_max", "3G"})->memory_bytes_max, uint64_t{3} << 30);
  for (const std::string value : {"", "M", "127M", "lots", "1.5G", "-1", "99999999999G"}) {
    EXPECT_TRUE(absl::StrContains(Refusal({absl::StrCat("--memory_max=", value)}), value)) << value;
  }
}

TEST(Config, ASwitchNeedsNoValue) {
  EXPECT_FALSE(Parse({})->probe_formats);
  const absl::StatusOr<Config> config = Parse({"--probe_formats", "--image_root", "/i"});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(config->probe_formats);
  EXPECT_THAT(config->image_roots, ElementsAre("/i"));
  EXPECT_TRUE(Parse({"--probe_formats=true"})->probe_formats);
  EXPECT_FALSE(Parse({"--probe_formats=false"})->probe_formats);
  EXPECT_TRUE(absl::StrContains(Refusal({"--probe_formats=perhaps"}), "perhaps"));
}

TEST(Config, WhatIsWrongIsNamed) {
  EXPECT_TRUE(absl::StrContains(Refusal({"--lisen=unix:/a"}), "--lisen"));
  EXPECT_TRUE(absl::StrContains(Refusal({"unix:/a"}), "'unix:/a'"));
  EXPECT_TRUE(absl::StrContains(Refusal({"--listen"}), "--listen needs a value"));
  EXPECT_TRUE(absl::StrContains(Refusal({"--listen=nonsense"}), "nonsense"));
  EXPECT_TRUE(absl::StrContains(Refusal({"--listen=unix:/a", "--listen=unix:/a"}), "twice"));
  EXPECT_TRUE(absl::StrContains(Refusal({"--state_dir=/a", "--state_dir=/b"}), "twice"));
  EXPECT_TRUE(absl::StrContains(Refusal({"--image_root="}), "--image_root"));
}

TEST(Config, VirtualMachinesComeFromFoldersAndAFile) {
  const absl::StatusOr<Config> config = Parse(
      {"--instance_dir=/a", "--instance-dir", "/b", "--instances=/f", "--monitor_timeout=2.5"});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_THAT(config->instance_folders, ElementsAre("/a", "/b"));
  EXPECT_EQ(config->instances_file, "/f");
  EXPECT_EQ(config->monitor_timeout, absl::Seconds(2.5));
  EXPECT_TRUE(absl::StrContains(Refusal({"--instance_dir="}), "--instance_dir"));
  for (const char* wrong : {"0", "-1", "nan", "soon", "1e9"}) {
    EXPECT_TRUE(absl::StrContains(Refusal({"--monitor_timeout", wrong}), wrong)) << wrong;
  }
}

TEST(Config, TlsFlagsGoTogether) {
  EXPECT_TRUE(Parse({"--tls_cert=c", "--tls_key=k"}).ok());
  EXPECT_TRUE(Parse({"--tls_cert=c", "--tls_key=k", "--tls_client_ca=a"}).ok());
  EXPECT_TRUE(absl::StrContains(Refusal({"--tls_cert=c"}), "--tls_key"));
  EXPECT_TRUE(absl::StrContains(Refusal({"--tls_key=k"}), "--tls_cert"));
  EXPECT_TRUE(absl::StrContains(Refusal({"--tls_client_ca=a"}), "--tls_cert"));
}

TEST(Config, ATcpAddressNeedsSomethingThatAsksWhoConnects) {
  for (const char* address : {"127.0.0.1:1", "[::1]:1", "localhost:1", "0.0.0.0:1"}) {
    const std::string listen = absl::StrCat("--listen=", address);
    for (const std::vector<std::string>& flags :
         {std::vector<std::string>{listen}, {listen, "--tls_cert=c", "--tls_key=k"}}) {
      const std::string refusal = Refusal(flags);
      for (const char* said :
           {address, "--tls_client_ca", "--token_file", "unix:PATH", "--insecure"}) {
        EXPECT_TRUE(absl::StrContains(refusal, said)) << refusal;
      }
    }
    EXPECT_TRUE(Parse({listen, "--tls_cert=c", "--tls_key=k", "--tls_client_ca=a"}).ok());
    EXPECT_TRUE(Parse({listen, "--tls_cert=c", "--tls_key=k", "--token_file=t"}).ok());
    const absl::StatusOr<Config> insecure = Parse({listen, "--listen=unix:/a", "--insecure"});
    ASSERT_TRUE(insecure.ok()) << insecure.status();
    EXPECT_THAT(UnguardedAddresses(*insecure), ElementsAre(address));
  }
  EXPECT_TRUE(UnguardedAddresses(*Parse({"--insecure"})).empty());
  EXPECT_TRUE(absl::StrContains(Refusal({"--token_file=t"}), "--tls_cert"));
}

TEST(Config, AUnixSocketIsForWhomTheFlagsSay) {
  EXPECT_FALSE(Parse({})->listen_mode.has_value());
  const absl::StatusOr<Config> config = Parse({"--listen_mode=0640", "--listen_group", "kvm"});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->listen_mode, mode_t{0640});
  EXPECT_EQ(config->listen_group, "kvm");
  EXPECT_EQ(Parse({"--listen_mode=666"})->listen_mode, mode_t{0666});
  for (const char* wrong : {"", "8", "rw", "1777", "00666", "-1"}) {
    EXPECT_TRUE(absl::StrContains(Refusal({absl::StrCat("--listen_mode=", wrong)}),
                                  absl::StrCat("'", wrong, "'")))
        << wrong;
  }
  EXPECT_TRUE(absl::StrContains(
      Refusal({"--listen=127.0.0.1:1", "--insecure", "--listen_mode=600"}), "unix sockets"));
}

TEST(Config, AddressesOfMonitorsAreAListOfTheirOwn) {
  const absl::StatusOr<Config> config =
      Parse({"--instance_address=h:1", "--instance_address", "vsock:3"});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_THAT(config->instance_addresses, ElementsAre("h:1", "vsock:3"));
  EXPECT_TRUE(absl::StrContains(Refusal({"--instance_address=h:x"}), "h:x"));
}

TEST(Config, HelpAndVersionWinOverAllElse) {
  EXPECT_EQ(Parse({"--help", "--nonsense"})->action, Config::Action::kHelp);
  EXPECT_EQ(Parse({"--version"})->action, Config::Action::kVersion);
}

TEST(Config, HelpTellsOfEveryFlag) {
  for (const char* flag :
       {"--listen", "--state_dir", "--image_root", "--tls_cert", "--tls_key", "--tls_client_ca",
        "--token_file", "--insecure", "--listen_mode", "--listen_group", "--instance_address",
        "--startup", "--help", "--version"}) {
    EXPECT_TRUE(absl::StrContains(HelpText(), flag)) << flag;
  }
}

}  // namespace
}  // namespace tidemark
