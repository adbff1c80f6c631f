// What a job has to remember of what it copies is memory, too: it counts with the bitmaps of all
// nodes.
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/native/budgets.h"
#include "engine/native/native_backend_world.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tidemark/block/v1/bitmap.pb.h"
#include "tidemark/block/v1/chain.pb.h"
#include "tidemark/block/v1/copy.pb.h"

namespace tidemark::native {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr uint64_t kSizeBytes = uint64_t{8} << 40;
// Bits of as much of the disk take 4 KiB as soon as they are not all alike.
constexpr uint64_t kStrideBytes = uint64_t{2} << 30;
constexpr uint64_t kBitmapBytesMax = kMemoryBytesMin / 3;
// So many places take a bitmap and a copy of it, which is twice that, close to the limit.
constexpr uint64_t kFits = 2600;
constexpr uint64_t kTooMany = 3000;

class CopyMemoryTest : public NativeBackendTest {
 protected:
  CopyMemoryTest() {
    backend_ = std::make_unique<NativeBackend>(
        NativeBackend::Options{.version = "test", .memory_bytes = kMemoryBytesMin}, &log_,
        &SystemClock());
    for (const char* node : {"disk", "target", "other", "its_target"}) {
      CallOk<BlockdevAddRequest, BlockdevAddResponse>(
          absl::StrCat("options { node_name: '", node, "' null_co { size: ", kSizeBytes, " } }"));
    }
    StartServer();
    Export("disk", true);
    EXPECT_TRUE(AddBitmap("b").ok());
  }

  absl::Status AddBitmap(const std::string& name) {
    return Call<BlockDirtyBitmapAddRequest, BlockDirtyBitmapAddResponse>(
               absl::StrCat("node: 'disk' name: '", name, "' granularity: 65536"))
        .status();
  }
  // In the places from `begin` to `end`.
  void GuestWrites(uint64_t begin, uint64_t end) {
    NbdClient guest(folder_ + "/nbd", "disk");
    for (uint64_t at = begin; at < end; ++at) guest.Fill('x', at * kStrideBytes, 512);
  }
  // A job that does not end, beside which others are counted.
  void StartAnother() {
    CallOk<BlockdevBackupRequest, BlockdevBackupResponse>(
        "job_id: 'k' device: 'other' target: 'its_target' sync: MIRROR_SYNC_MODE_NONE");
  }
  absl::Status Backup() {
    return Call<BlockdevBackupRequest, BlockdevBackupResponse>(
               "job_id: 'j' device: 'disk' target: 'target' sync: MIRROR_SYNC_MODE_BITMAP "
               "bitmap: 'b' bitmap_mode: BITMAP_SYNC_MODE_ON_SUCCESS speed: 1")
        .status();
  }
};

TEST_F(CopyMemoryTest, ABackupThatWouldHaveToRememberTooMuchIsRefusedBesideOthers) {
  StartAnother();
  GuestWrites(0, kTooMany);
  const absl::Status refused = Backup();
  EXPECT_TRUE(HasReason(refused, Reason::kLimitReached)) << refused;
  EXPECT_THAT(std::string(refused.message()), AllOf(HasSubstr("'disk'"), HasSubstr("'j'"),
                                                    HasSubstr(absl::StrCat(kBitmapBytesMax))));
  // And nothing is left of it.
  CallOk<BlockDirtyBitmapClearRequest, BlockDirtyBitmapClearResponse>("node: 'disk' name: 'b'");
  CallOk<BlockdevDelRequest, BlockdevDelResponse>("node_name: 'target'");
}

// It may be the one that makes the bitmaps small again.
TEST_F(CopyMemoryTest, ABackupThatIsAloneAlwaysBegins) {
  GuestWrites(0, kTooMany);
  const absl::Status started = Backup();
  EXPECT_TRUE(started.ok()) << started;
}

TEST_F(CopyMemoryTest, WhatABackupRemembersLeavesLessForBitmapsUntilItEnds) {
  GuestWrites(0, kFits);
  const absl::Status started = Backup();
  ASSERT_TRUE(started.ok()) << started;
  // Marked in the successor of `b`, that little is too much.
  GuestWrites(kFits, kFits + 500);
  const absl::Status refused = AddBitmap("c");
  EXPECT_TRUE(HasReason(refused, Reason::kLimitReached)) << refused;
  CallOk<BlockJobCancelRequest, BlockJobCancelResponse>("device: 'j' force: true");
  WaitForJob("j", JOB_STATUS_NULL);
  EXPECT_TRUE(AddBitmap("c").ok());
}

TEST_F(CopyMemoryTest, AStreamIsRefusedBesideOthersOnceBitmapsTakeAllThatTheyMay) {
  StartAnother();
  ASSERT_TRUE(AddBitmap("c").ok());
  ASSERT_TRUE(AddBitmap("d").ok());
  GuestWrites(0, kTooMany);
  const auto stream = [this] {
    return Call<BlockStreamRequest, BlockStreamResponse>("job_id: 's' device: 'target'").status();
  };
  const absl::Status refused = stream();
  EXPECT_TRUE(HasReason(refused, Reason::kLimitReached)) << refused;
  CallOk<BlockDirtyBitmapClearRequest, BlockDirtyBitmapClearResponse>("node: 'disk' name: 'b'");
  EXPECT_TRUE(stream().ok());
  WaitForJob("s", JOB_STATUS_NULL);
}

}  // namespace
}  // namespace tidemark::native
