#include "engine/base/path_policy.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "gtest/gtest.h"

namespace tidemark {
namespace {

// root/disk.img, root/folder/, outside/secret.img; `policy` allows root.
class PathPolicyTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = absl::StrCat(testing::TempDir(), "/policyXXXXXX");
    base_ = std::filesystem::canonical(mkdtemp(pattern.data()));
    std::filesystem::create_directories(base_ + "/root/folder");
    std::filesystem::create_directory(base_ + "/outside");
    std::ofstream(base_ + "/root/disk.img") << "disk";
    std::ofstream(base_ + "/outside/secret.img") << "secret";
    absl::StatusOr<PathPolicy> policy = PathPolicy::Create({base_ + "/root"});
    ASSERT_TRUE(policy.ok()) << policy.status();
    policy_ = *std::move(policy);
  }
  void TearDown() override { std::filesystem::remove_all(base_); }

  void Link(const std::string& target, const std::string& link) {
    ASSERT_EQ(symlink(target.c_str(), (base_ + link).c_str()), 0);
  }
  bool Allowed(const std::string& path) { return policy_.CheckPath(base_ + path).ok(); }

  std::string base_;
  PathPolicy policy_;
};

TEST_F(PathPolicyTest, WithoutRootsEverythingIsAllowed) {
  EXPECT_TRUE(PathPolicy().CheckPath("/etc/passwd").ok());
  EXPECT_TRUE(PathPolicy().CheckOpened(0, "anything").ok());
}

TEST_F(PathPolicyTest, FilesBelowARootAreAllowedWhetherTheyExistOrNot) {
  EXPECT_TRUE(Allowed("/root/disk.img"));
  EXPECT_TRUE(Allowed("/root/new.img"));
  EXPECT_TRUE(Allowed("/root/folder/new.img"));
  EXPECT_TRUE(Allowed("/root/no-folder/new.img"));
  EXPECT_TRUE(Allowed("/root/folder/../disk.img"));
}

TEST_F(PathPolicyTest, RefusalNamesThePathAndTheRoots) {
  const std::string path = base_ + "/outside/secret.img";
  const absl::Status status = policy_.CheckPath(path);
  EXPECT_EQ(DetailsOf(status)->reason, Reason::kPathForbidden);
  EXPECT_NE(status.message().find(path), absl::string_view::npos) << status;
  EXPECT_NE(status.message().find(base_ + "/root"), absl::string_view::npos) << status;
}

TEST_F(PathPolicyTest, DotsDoNotLeadOut) {
  EXPECT_FALSE(Allowed("/root/../outside/secret.img"));
  EXPECT_FALSE(Allowed("/root/../outside/new.img"));
  EXPECT_FALSE(Allowed("/root/no-folder/../../outside/secret.img"));
}

TEST_F(PathPolicyTest, AFolderWhoseNameBeginsLikeTheRootIsOutside) {
  std::filesystem::create_directory(base_ + "/rootbeer");
  EXPECT_FALSE(Allowed("/rootbeer/disk.img"));
}

TEST_F(PathPolicyTest, ASymbolicLinkOutOfTheRootIsRefused) {
  Link(base_ + "/outside/secret.img", "/root/link.img");
  Link("../outside", "/root/link-folder");
  EXPECT_FALSE(Allowed("/root/link.img"));
  EXPECT_FALSE(Allowed("/root/link-folder/secret.img"));
  EXPECT_FALSE(Allowed("/root/link-folder/new.img"));
}

TEST_F(PathPolicyTest, ADanglingSymbolicLinkIsJudgedByWhereItPoints) {
  Link("../outside/new.img", "/root/dangling-out.img");
  Link("folder/new.img", "/root/dangling-in.img");
  EXPECT_FALSE(Allowed("/root/dangling-out.img"));
  EXPECT_TRUE(Allowed("/root/dangling-in.img"));
}

TEST_F(PathPolicyTest, SymbolicLinksThatGoRoundInACircleAreRefused) {
  Link("b", "/root/a");
  Link("a", "/root/b");
  EXPECT_FALSE(Allowed("/root/a"));
  EXPECT_FALSE(Allowed("/root/a/disk.img"));
}

TEST_F(PathPolicyTest, ASymbolicLinkIntoTheRootIsAllowed) {
  Link(base_ + "/root", "/outside/way-in");
  EXPECT_TRUE(Allowed("/outside/way-in/disk.img"));
}

TEST_F(PathPolicyTest, ARootMayBeASymbolicLink) {
  Link(base_ + "/root", "/root-link");
  const absl::StatusOr<PathPolicy> policy = PathPolicy::Create({base_ + "/root-link"});
  ASSERT_TRUE(policy.ok()) << policy.status();
  EXPECT_TRUE(policy->CheckPath(base_ + "/root/disk.img").ok());
  EXPECT_TRUE(policy->CheckPath(base_ + "/root-link/disk.img").ok());
  EXPECT_FALSE(policy->CheckPath(base_ + "/outside/secret.img").ok());
}

TEST_F(PathPolicyTest, ARootMustBeAFolder) {
  EXPECT_EQ(PathPolicy::Create({base_ + "/nowhere"}).status().code(), absl::StatusCode::kNotFound);
  EXPECT_FALSE(PathPolicy::Create({base_ + "/root/disk.img"}).ok());
}

TEST_F(PathPolicyTest, AnOpenFileIsJudgedByItselfNotByItsName) {
  const std::string name = base_ + "/root/disk.img";
  const int inside = open(name.c_str(), O_RDONLY);
  const int outside = open((base_ + "/outside/secret.img").c_str(), O_RDONLY);
  EXPECT_TRUE(policy_.CheckOpened(inside, name).ok());
  EXPECT_EQ(policy_.CheckOpened(outside, name).code(), absl::StatusCode::kPermissionDenied);
  close(inside);
  close(outside);
}

TEST_F(PathPolicyTest, AnEmptyNameOrANulByteIsInvalid) {
  EXPECT_EQ(policy_.CheckPath("").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(policy_.CheckPath(absl::string_view("a\0b", 3)).code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(PathPolicyTest, ANameThatIsLongerThanTheKernelTakesIsInvalid) {
  EXPECT_EQ(policy_.CheckPath("/" + std::string(4095, 'a')).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(policy_.CheckPath("/" + std::string(4094, 'a')).ok());
  EXPECT_TRUE(PathPolicy::CheckForm("/" + std::string(4094, 'a')).ok());
}

TEST_F(PathPolicyTest, ARootIsKnownByTheNameThatItWasGivenToo) {
  Link(base_ + "/root", "/root-link");
  EXPECT_EQ(PathPolicy::Create({base_ + "/root-link"})->RootNames(),
            (std::vector<std::string>{base_ + "/root", base_ + "/root-link"}));
}

}  // namespace
}  // namespace tidemark
