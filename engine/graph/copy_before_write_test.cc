#include "engine/graph/copy_before_write.h"

#include <gtest/gtest.h>

#include "engine/graph/fake_driver.h"
#include "engine/storage/memory_storage.h"

namespace tidemark::graph {
namespace {

// Keeps what the disk held when it was asked to.
class Keeper final : public BeforeWrite {
 public:
  explicit Keeper(std::shared_ptr<storage::MemoryStorage> disk) : disk_(std::move(disk)) {}
  absl::Status Capture(Range range) override {
    kept.push_back(disk_->Contents(range));
    return status;
  }
  absl::Status status;
  std::vector<std::string> kept;

 private:
  const std::shared_ptr<storage::MemoryStorage> disk_;
};

struct World {
  std::shared_ptr<storage::MemoryStorage> disk = storage::MemoryStorage::Of("abcdefgh");
  std::shared_ptr<Keeper> keeper = std::make_shared<Keeper>(disk);
  CopyBeforeWriteDriver driver{std::make_shared<PlacingStorage>(disk), keeper};
  storage::Storage& top = *driver.storage();
};

TEST(CopyBeforeWrite, CapturesOldDataBeforeEveryKindOfChange) {
  World world;
  ASSERT_TRUE(world.top.Write(0, Filled(2, 'X')).ok());
  ASSERT_TRUE(world.top.WriteZeroes({2, 2}).ok());
  ASSERT_TRUE(world.top.Discard({4, 2}).ok());
  EXPECT_EQ(world.keeper->kept, std::vector<std::string>({"ab", "cd", "ef"}));
  EXPECT_EQ(world.disk->Contents({0, 2}), "XX");
}

// Copying up what is beneath: the disk reads the same afterwards, so there is nothing to keep.
TEST(CopyBeforeWrite, WhatIsSaidToChangeNothingIsWrittenAndNotCaptured) {
  World world;
  ASSERT_TRUE(world.top.Write(0, Filled(2, 'X'), {.unchanged = true}).ok());
  ASSERT_TRUE(world.top.WriteZeroes({2, 2}, {.unchanged = true}).ok());
  EXPECT_TRUE(world.keeper->kept.empty());
  EXPECT_EQ(world.disk->Contents(), std::string("XX\0\0efgh", 8));
  // Nor does it need anybody who could capture.
  world.keeper->status = absl::UnknownError("cannot read the source");
  EXPECT_TRUE(world.top.Write(4, Filled(2, 'Y'), {.unchanged = true}).ok());
  EXPECT_EQ(world.disk->Contents({4, 2}), "YY");
}

TEST(CopyBeforeWrite, ReadsPassPlacedOnesToo) {
  World world;
  auto buffer = Filled(8, 0);
  ASSERT_TRUE(world.top.Read(0, absl::MakeSpan(buffer)).ok());
  auto placement = world.top.PlaceRead({0, 8});
  ASSERT_TRUE(placement.ok());
  EXPECT_NE(*placement, nullptr);
  EXPECT_TRUE(world.keeper->kept.empty());
}

TEST(CopyBeforeWrite, PlacedWritesAreNotHandedOn) {
  World world;
  auto placement = world.top.PlaceWrite({0, 8});
  ASSERT_TRUE(placement.ok());
  EXPECT_EQ(*placement, nullptr);
}

TEST(CopyBeforeWrite, WhatCannotBeCapturedIsNotOverwritten) {
  World world;
  world.keeper->status = absl::UnknownError("cannot read the source");
  EXPECT_FALSE(world.top.Write(0, Filled(2, 'X')).ok());
  EXPECT_FALSE(world.top.WriteZeroes({2, 2}).ok());
  EXPECT_FALSE(world.top.Discard({4, 2}).ok());
  EXPECT_EQ(world.disk->Contents(), "abcdefgh");
}

}  // namespace
}  // namespace tidemark::graph
