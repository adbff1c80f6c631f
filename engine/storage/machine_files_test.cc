#include "engine/storage/machine_files.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "engine/base/error.h"
#include "gtest/gtest.h"

namespace tidemark::storage {
namespace {

class MachineFilesTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "/filesXXXXXX";
    folder_ = mkdtemp(pattern.data());
    ASSERT_EQ(mkdir((folder_ + "/root").c_str(), 0755), 0);
    absl::StatusOr<PathPolicy> policy = PathPolicy::Create({folder_ + "/root"});
    ASSERT_TRUE(policy.ok());
    files_ = std::make_unique<MachineFiles>(*std::move(policy));
  }
  std::string Write(const std::string& name, const std::string& bytes) {
    std::ofstream(folder_ + name) << bytes;
    return folder_ + name;
  }

  std::string folder_;
  std::unique_ptr<MachineFiles> files_;
};

TEST_F(MachineFilesTest, MakesOpensAndReadsAFile) {
  const std::string path = folder_ + "/root/disk";
  ASSERT_TRUE(files_->Create(path, 4096, Preallocation::kOff, nullptr).ok());
  const absl::StatusOr<std::shared_ptr<File>> file = files_->Open(path, {});
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->path(), path);
  EXPECT_EQ((*file)->size_bytes(), 4096u);
}

TEST_F(MachineFilesTest, TheBeginningOfAShortFileIsShort) {
  EXPECT_EQ(files_->ReadBeginning(Write("/root/short", "abc"), 512).value(), "abc");
  EXPECT_EQ(files_->ReadBeginning(Write("/root/long", "abcdef"), 4).value(), "abcd");
}

TEST_F(MachineFilesTest, WhatLiesOutsideIsNeitherReadNorMadeNorOpened) {
  const std::string outside = Write("/outside", "secret");
  const std::string link = folder_ + "/root/link";
  ASSERT_EQ(symlink(outside.c_str(), link.c_str()), 0);
  for (const std::string& path : {outside, link}) {
    EXPECT_TRUE(HasReason(files_->Open(path, {}).status(), Reason::kPathForbidden));
    EXPECT_TRUE(HasReason(files_->ReadBeginning(path, 512).status(), Reason::kPathForbidden));
    EXPECT_TRUE(
        HasReason(files_->Create(path, 0, Preallocation::kOff, nullptr), Reason::kPathForbidden));
  }
  EXPECT_EQ(access((folder_ + "/new").c_str(), F_OK), -1);
  EXPECT_FALSE(files_->Create(folder_ + "/new", 0, Preallocation::kOff, nullptr).ok());
  EXPECT_EQ(access((folder_ + "/new").c_str(), F_OK), -1);
}

TEST_F(MachineFilesTest, AFileThatIsNotThereIsNamed) {
  const absl::Status status = files_->Open(folder_ + "/root/none", {}).status();
  EXPECT_TRUE(HasReason(status, Reason::kFileNotFound)) << status;
  EXPECT_NE(status.message().find("root/none"), std::string::npos) << status;
}

}  // namespace
}  // namespace tidemark::storage
