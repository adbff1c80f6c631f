#include "engine/storage/image_lock.h"

#include <fcntl.h>
#include <unistd.h>

#include <string>

#include "engine/base/error.h"
#include "engine/storage/external_tool.h"
#include "gtest/gtest.h"

namespace tidemark::storage {
namespace {

constexpr PermissionSet kShareReads = kPermissionConsistentRead | kPermissionWriteUnchanged;
// What QEMU's qcow2 driver takes.
constexpr PermissionSet kWriterUses =
    kPermissionConsistentRead | kPermissionWrite | kPermissionResize;

class ImageLockTest : public testing::Test {
 protected:
  void SetUp() override {
    first_fd_ = open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    second_fd_ = open(path_.c_str(), O_RDONLY | O_CLOEXEC);
    ASSERT_GE(first_fd_, 0);
    ASSERT_GE(second_fd_, 0);
    ASSERT_EQ(ftruncate(first_fd_, 1 << 20), 0);
    if (!CanLockImages(first_fd_)) GTEST_SKIP() << "the file system has no OFD locks";
  }
  void TearDown() override {
    close(first_fd_);
    close(second_fd_);
  }

  void ExpectRefused(const absl::Status& status, const std::string& permission) {
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    const absl::optional<ErrorDetails> details = DetailsOf(status);
    ASSERT_TRUE(details.has_value()) << status;
    EXPECT_EQ(details->reason, Reason::kImageLocked);
    EXPECT_NE(status.message().find(path_), std::string::npos) << status;
    EXPECT_NE(status.message().find("\"" + permission + "\""), std::string::npos) << status;
  }

  const std::string path_ = TestPath("locked.img");
  int first_fd_ = -1;
  int second_fd_ = -1;
};

TEST_F(ImageLockTest, TwoReadersAgree) {
  const auto first = ImageLock::Acquire(first_fd_, path_, kPermissionConsistentRead, kShareReads);
  const auto second = ImageLock::Acquire(second_fd_, path_, kPermissionConsistentRead, kShareReads);
  EXPECT_EQ(first.status(), absl::OkStatus());
  EXPECT_EQ(second.status(), absl::OkStatus());
}

TEST_F(ImageLockTest, TwoWritersInOneProcessDoNot) {
  const auto first = ImageLock::Acquire(first_fd_, path_, kWriterUses, kShareReads);
  ASSERT_EQ(first.status(), absl::OkStatus());
  ExpectRefused(ImageLock::Acquire(second_fd_, path_, kWriterUses, kShareReads).status(), "write");
}

TEST_F(ImageLockTest, AReaderThatSharesNoWritesIsRefusedBesideAWriter) {
  const auto first = ImageLock::Acquire(first_fd_, path_, kWriterUses, kPermissionAll);
  ASSERT_EQ(first.status(), absl::OkStatus());
  const absl::Status refused =
      ImageLock::Acquire(second_fd_, path_, kPermissionConsistentRead, kShareReads).status();
  ExpectRefused(refused, "write");
  EXPECT_NE(refused.message().find("shared"), std::string::npos);
}

TEST_F(ImageLockTest, EveryPairOfPermissionsIsJudgedAsAModelDoes) {
  for (PermissionSet used = 0; used <= kPermissionAll; ++used) {
    for (PermissionSet shared = 0; shared <= kPermissionAll; ++shared) {
      const auto first = ImageLock::Acquire(first_fd_, path_, used, shared);
      ASSERT_EQ(first.status(), absl::OkStatus());
      for (PermissionSet other_used = 0; other_used <= kPermissionAll; ++other_used) {
        const PermissionSet other_shared = (other_used * 7 + used * 3 + shared) & kPermissionAll;
        const bool agree = (other_used & ~shared) == 0 && (used & ~other_shared) == 0;
        EXPECT_EQ(ImageLock::Acquire(second_fd_, path_, other_used, other_shared).ok(), agree)
            << used << " " << shared << " " << other_used << " " << other_shared;
      }
    }
  }
}

TEST_F(ImageLockTest, ReleaseLetsTheNextOneIn) {
  auto first = ImageLock::Acquire(first_fd_, path_, kWriterUses, kShareReads);
  ASSERT_EQ(first.status(), absl::OkStatus());
  *first = nullptr;
  EXPECT_EQ(ImageLock::Acquire(second_fd_, path_, kWriterUses, kShareReads).status(),
            absl::OkStatus());
}

TEST_F(ImageLockTest, ARefusedUpdateChangesNothing) {
  const auto first = ImageLock::Acquire(first_fd_, path_, kPermissionWrite, kPermissionAll);
  const auto second =
      ImageLock::Acquire(second_fd_, path_, kPermissionConsistentRead, kPermissionAll);
  ASSERT_EQ(second.status(), absl::OkStatus());
  ExpectRefused((*second)->Update(kWriterUses, kShareReads), "write");
  EXPECT_EQ((*second)->used(), kPermissionConsistentRead);
  EXPECT_EQ((*second)->shared(), kPermissionAll);
  // The first may still stop sharing resize, which the second tried to use.
  EXPECT_EQ((*first)->Update(kPermissionWrite, kPermissionAll & ~kPermissionResize),
            absl::OkStatus());
}

TEST_F(ImageLockTest, AnUpdateGivesUpWhatIsNotNeededAnyMore) {
  const auto first = ImageLock::Acquire(first_fd_, path_, kWriterUses, kShareReads);
  ASSERT_EQ((*first)->Update(kPermissionConsistentRead, kPermissionAll), absl::OkStatus());
  EXPECT_EQ(ImageLock::Acquire(second_fd_, path_, kWriterUses, kShareReads).status(),
            absl::OkStatus());
}

class ImageLockWithQemu : public ImageLockTest {
 protected:
  void SetUp() override {
    if (!HaveTool("qemu-io") || !HaveTool("qemu-img")) {
      GTEST_SKIP() << "qemu-io and qemu-img are not installed";
    }
    ImageLockTest::SetUp();
    ASSERT_EQ(RunTool({"qemu-img", "create", "-q", "-f", "qcow2", path_, "1M"}).exit_code, 0);
  }
};

TEST_F(ImageLockWithQemu, OurWriterKeepsQemuOut) {
  const auto ours = ImageLock::Acquire(first_fd_, path_, kWriterUses, kShareReads);
  ASSERT_EQ(ours.status(), absl::OkStatus());
  const ToolResult writer = RunTool({"qemu-io", "-f", "qcow2", path_, "-c", "write 0 512"});
  EXPECT_NE(writer.exit_code, 0);
  EXPECT_NE(writer.output.find("Failed to get \"write\" lock"), std::string::npos) << writer.output;
  const ToolResult reader = RunTool({"qemu-io", "-r", "-f", "qcow2", path_, "-c", "read 0 512"});
  EXPECT_NE(reader.exit_code, 0);
  EXPECT_NE(reader.output.find("Failed to get shared \"write\" lock"), std::string::npos)
      << reader.output;
  const ToolResult forced =
      RunTool({"qemu-io", "-U", "-r", "-f", "qcow2", path_, "-c", "read 0 512"});
  EXPECT_EQ(forced.exit_code, 0) << forced.output;
}

TEST_F(ImageLockWithQemu, OurReaderLetsQemuReadButNotWrite) {
  const auto ours = ImageLock::Acquire(second_fd_, path_, kPermissionConsistentRead, kShareReads);
  ASSERT_EQ(ours.status(), absl::OkStatus());
  EXPECT_EQ(RunTool({"qemu-io", "-r", "-f", "qcow2", path_, "-c", "read 0 512"}).exit_code, 0);
  EXPECT_NE(RunTool({"qemu-io", "-f", "qcow2", path_, "-c", "write 0 512"}).exit_code, 0);
}

TEST_F(ImageLockWithQemu, QemusWriterKeepsUsOut) {
  BackgroundTool qemu({"qemu-io", "-f", "qcow2", path_});
  qemu.Write("length\n");
  ASSERT_NE(qemu.ReadUntil("1 MiB"), "");
  ExpectRefused(ImageLock::Acquire(first_fd_, path_, kWriterUses, kShareReads).status(), "write");
  ExpectRefused(
      ImageLock::Acquire(second_fd_, path_, kPermissionConsistentRead, kShareReads).status(),
      "write");
  // As force-share.
  EXPECT_EQ(
      ImageLock::Acquire(second_fd_, path_, kPermissionConsistentRead, kPermissionAll).status(),
      absl::OkStatus());
  EXPECT_EQ(qemu.Finish(), 0);
  EXPECT_EQ(ImageLock::Acquire(first_fd_, path_, kWriterUses, kShareReads).status(),
            absl::OkStatus());
}

TEST_F(ImageLockWithQemu, TheStorageDaemonKeepsUsOutOfANodeThatIsOpen) {
  if (!HaveTool("qemu-storage-daemon")) GTEST_SKIP() << "qemu-storage-daemon is not installed";
  BackgroundTool qemu({"qemu-storage-daemon", "--blockdev",
                       "driver=qcow2,node-name=n,file.driver=file,file.filename=" + path_,
                       "--chardev", "stdio,id=c", "--monitor", "chardev=c"});
  ASSERT_NE(qemu.ReadUntil("QMP"), "");
  ExpectRefused(ImageLock::Acquire(first_fd_, path_, kWriterUses, kShareReads).status(), "write");
  qemu.Write(
      "{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"blockdev-del\",\"arguments\":"
      "{\"node-name\":\"n\"}}\n");
  ASSERT_NE(qemu.ReadUntil("{\"return\": {}}"), "");
  ASSERT_NE(qemu.ReadUntil("{\"return\": {}}"), "");
  EXPECT_EQ(ImageLock::Acquire(first_fd_, path_, kWriterUses, kShareReads).status(),
            absl::OkStatus());
}

}  // namespace
}  // namespace tidemark::storage
