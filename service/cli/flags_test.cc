#include "service/cli/flags.h"

#include <map>

#include "gtest/gtest.h"

namespace tidemark::cli {
namespace {

using Words = std::vector<std::string>;

absl::StatusOr<Flags> Parse(const Words& arguments,
                            const std::map<std::string, std::string>& environment = {}) {
  return ParseFlags(arguments,
                    [&environment](absl::string_view name) -> absl::optional<std::string> {
                      const auto found = environment.find(std::string(name));
                      if (found == environment.end()) return absl::nullopt;
                      return found->second;
                    });
}

TEST(FlagsTest, FlagsStandAnywhere) {
  const auto flags = Parse(
      {"--json", "job-cancel", "--address", "unix:/s", "id=j", "--instance=vm0", "--timeout=1.5"});
  ASSERT_TRUE(flags.ok()) << flags.status();
  EXPECT_TRUE(flags->json);
  EXPECT_EQ(flags->address, "unix:/s");
  EXPECT_EQ(flags->instance, "vm0");
  EXPECT_EQ(flags->timeout, absl::Milliseconds(1500));
  EXPECT_EQ(flags->words, (Words{"job-cancel", "id=j"}));
}

TEST(FlagsTest, NamesTakeDashesAndUnderscoresAndMinusIsAWord) {
  EXPECT_EQ(Parse({"--tls-ca=/ca"})->tls_ca, "/ca");
  EXPECT_EQ(Parse({"--tls_ca", "/ca"})->tls_ca, "/ca");
  EXPECT_EQ(Parse({"get-job", "-"})->words, (Words{"get-job", "-"}));
  EXPECT_EQ(Parse({"get-job", "--", "--json"})->words, (Words{"get-job", "--json"}));
  EXPECT_TRUE(Parse({"-h"})->help);
}

TEST(FlagsTest, TheAddressIsTheFlagsElseTheEnvironmentsElseTheDaemonsOwn) {
  EXPECT_EQ(Parse({"--address=h:1"}, {{"TIDEMARK_ADDRESS", "h:2"}})->address, "h:1");
  EXPECT_EQ(Parse({}, {{"TIDEMARK_ADDRESS", "h:2"}})->address, "h:2");
  EXPECT_EQ(Parse({})->address, "unix:" + DefaultSocketPath([](absl::string_view) {
                                  return absl::optional<std::string>();
                                }));
}

TEST(FlagsTest, ATokenComesFromAFileElseFromTheEnvironmentAndIsForTlsOnly) {
  EXPECT_EQ(Parse({"--tls_ca=/ca", "--token_file=/t"}, {{"TIDEMARK_TOKEN", "x"}})->token_file,
            "/t");
  EXPECT_EQ(Parse({"--tls_ca=/ca", "--token_file=/t"}, {{"TIDEMARK_TOKEN", "x"}})->token, "");
  EXPECT_EQ(Parse({"--tls_ca=/ca"}, {{"TIDEMARK_TOKEN", "x"}})->token, "x");
  EXPECT_EQ(Parse({}, {{"TIDEMARK_TOKEN", "x"}})->token, "");
  EXPECT_FALSE(Parse({"--token_file=/t"}).ok());
}

TEST(FlagsTest, EventsAndWaitHaveFlagsOfTheirOwn) {
  const auto flags = Parse({"events", "--after=0", "--count", "3", "--job=a", "--job=b", "--node=n",
                            "--kind=JOB_PROGRESS"});
  ASSERT_TRUE(flags.ok()) << flags.status();
  EXPECT_EQ(flags->after, 0u);
  EXPECT_EQ(flags->count, 3u);
  EXPECT_EQ(flags->jobs, (Words{"a", "b"}));
  EXPECT_EQ(Parse({"wait", "j", "--for", "ready"})->statuses, (Words{"ready"}));
}

TEST(FlagsTest, WrongFlagsAreRefused) {
  for (const Words& arguments : std::vector<Words>{{"--nonsense"},
                                                   {"-x"},
                                                   {"--address"},
                                                   {"--address="},
                                                   {"--json=yes"},
                                                   {"--timeout=soon"},
                                                   {"--timeout=-1"},
                                                   {"--timeout=nan"},
                                                   {"--timeout=1e300"},
                                                   {"events", "--after=-1"},
                                                   {"events", "--count=x"},
                                                   {"query-jobs", "--after=1"},
                                                   {"events", "--for=ready"},
                                                   {"--tls_cert=/c"}}) {
    EXPECT_EQ(Parse(arguments).status().code(), absl::StatusCode::kInvalidArgument)
        << arguments.back();
  }
}

}  // namespace
}  // namespace tidemark::cli
