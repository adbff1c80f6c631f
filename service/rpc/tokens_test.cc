#include "service/rpc/tokens.h"

#include <stdlib.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "service/rpc/limits.h"

namespace tidemark::rpc {
namespace {

// Of "secret" and "other".
constexpr char kSecret[] = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
constexpr char kOther[] = "d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa";

class TokensTest : public testing::Test {
 protected:
  TokensTest() {
    char pattern[] = "/tmp/tokens-XXXXXX";
    close(mkstemp(pattern));
    path_ = pattern;
  }
  ~TokensTest() override { unlink(path_.c_str()); }
  void Write(const std::string& text) { std::ofstream(path_) << text; }
  absl::StatusOr<std::shared_ptr<Tokens>> Read(const std::string& text) {
    Write(text);
    return Tokens::Create(path_);
  }
  std::string path_;
};

TEST_F(TokensTest, EachLineIsANameAndTheHashOfItsToken) {
  const auto tokens = Read(std::string("# who may call\n\n  backup@host-1.site\t ") + kSecret +
                           " \r\nold " + absl::AsciiStrToUpper(kOther));
  ASSERT_TRUE(tokens.ok()) << tokens.status();
  EXPECT_EQ((*tokens)->NameOf("secret"), "backup@host-1.site");
  EXPECT_EQ((*tokens)->NameOf("other"), "old");
  EXPECT_FALSE((*tokens)->NameOf("Secret").has_value());
  EXPECT_FALSE((*tokens)->NameOf("").has_value());
  EXPECT_FALSE((*tokens)->NameOf(kSecret).has_value()) << "the hash is no token";
}

TEST_F(TokensTest, ANameMayHaveTwoTokens) {
  const auto tokens = Read(std::string("a ") + kSecret + "\na " + kOther + "\n");
  ASSERT_TRUE(tokens.ok()) << tokens.status();
  EXPECT_EQ((*tokens)->NameOf("secret"), "a");
  EXPECT_EQ((*tokens)->NameOf("other"), "a");
}

TEST_F(TokensTest, AFileThatCannotBeUsedIsNamedWithItsLineAndNotQuoted) {
  const std::string good = std::string("a ") + kSecret + "\n";
  for (const std::string& bad :
       {good + "b hunter2\n", good + "hunter2\n", good + "b " + kOther + " more\n",
        good + "b/c " + kOther + "\n", good + "b " + (kOther + 1) + "\n",
        good + std::string(kTokenNameBytesMax + 1, 'b') + " " + kOther + "\n",
        good + "b " + kSecret + "\n"}) {
    const absl::Status status = Read(bad).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad;
    EXPECT_TRUE(absl::StrContains(status.message(), path_)) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), "line 2")) << status;
    EXPECT_FALSE(absl::StrContains(status.message(), "hunter2")) << status;
    EXPECT_FALSE(absl::StrContains(status.message(), kSecret)) << status;
  }
  EXPECT_FALSE(Read("").ok());
  EXPECT_FALSE(Read("# nobody\n").ok());
  EXPECT_FALSE(Tokens::Create("/nowhere/tokens").ok());
}

TEST_F(TokensTest, AreReadAnewAndABadFileChangesNothing) {
  const auto tokens = Read(std::string("a ") + kSecret);
  ASSERT_TRUE(tokens.ok()) << tokens.status();
  Write("nonsense");
  EXPECT_FALSE((*tokens)->Reload().ok());
  EXPECT_EQ((*tokens)->NameOf("secret"), "a");
  Write(std::string("b ") + kOther);
  EXPECT_TRUE((*tokens)->Reload().ok());
  EXPECT_FALSE((*tokens)->NameOf("secret").has_value());
  EXPECT_EQ((*tokens)->NameOf("other"), "b");
}

TEST(BearerToken, IsBehindItsScheme) {
  EXPECT_EQ(BearerToken("Bearer abc"), "abc");
  EXPECT_EQ(BearerToken("bearer  abc "), "abc");
  EXPECT_FALSE(BearerToken("Basic abc").has_value());
  EXPECT_FALSE(BearerToken("Bearer").has_value());
  EXPECT_FALSE(BearerToken("Bearer ").has_value());
  EXPECT_FALSE(BearerToken("abc").has_value());
  EXPECT_FALSE(BearerToken("").has_value());
}

}  // namespace
}  // namespace tidemark::rpc
