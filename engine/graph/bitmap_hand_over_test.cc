// What becomes of a bitmap that a backup used.
#include <gtest/gtest.h>

#include <thread>

#include "engine/graph/bitmap_world.h"

namespace tidemark::graph {
namespace {

using bitmap::DirtyBitmap;

// ---- Backups ----

TEST(BitmapHandOver, DuringABackupTheBitmapStandsStillAndItsSuccessorRecords) {
  BitmapWorld world;
  Bitmap* bitmap = world.Add("b", {1});
  world.store.CreateSuccessor(bitmap);
  world.Write(2);
  EXPECT_EQ(world.Dirty("b"), Granules({1}));
  EXPECT_TRUE(world.Info("b").busy);
  EXPECT_TRUE(world.Info("b").recording);
  EXPECT_EQ(world.Info("").count_bytes, kGranule);
  EXPECT_EQ(ReasonOf(world.store.Clear("b").status()), Reason::kBitmapBusy);
  // If all ends here, nothing that is dirty is lost.
  world.Add("p");
  EXPECT_TRUE(world.store.Stored().empty());
}

TEST(BitmapHandOver, UndoMakesItAsIfTheBackupHadNotBeen) {
  BitmapWorld world;
  Bitmap* bitmap = world.Add("b", {1});
  world.store.CreateSuccessor(bitmap);
  world.Write(2);
  world.store.UndoSuccessor(bitmap);
  EXPECT_EQ(world.count(), 1);
  EXPECT_FALSE(world.Info("b").busy);
  EXPECT_EQ(world.Dirty("b"), Granules({1, 2}));
}

TEST(BitmapHandOver, APersistentBitmapStoredDuringABackupHoldsBoth) {
  BitmapWorld world(false, {FromImage("b")});
  world.Write(1);
  world.store.CreateSuccessor(*world.store.Find("b"));
  world.Write(2);
  ASSERT_EQ(world.store.Stored().size(), 1);
  EXPECT_EQ(GranulesOf(*world.store.Stored()[0].bits), Granules({1, 2}));
}

// S, W and U overlap in every way: granule i is in S if bit 0 of i is set, W by bit 1, U by bit 2.
Granules GranulesWithBit(int bit) {
  Granules granules;
  for (uint64_t i = 0; i < 8; ++i) {
    if ((i >> bit) & 1) granules.insert(i);
  }
  return granules;
}

TEST(BitmapHandOver, EveryRowOfTheTable) {
  const Granules s = GranulesWithBit(0);
  const Granules w = GranulesWithBit(1);
  const Granules u = GranulesWithBit(2);
  struct Row {
    BitmapSyncMode mode;
    bool success;
    Granules expected;
  };
  const Row kRows[] = {
      {BitmapSyncMode::kOnSuccess, true, w},       {BitmapSyncMode::kOnSuccess, false, Union(s, w)},
      {BitmapSyncMode::kAlways, true, w},          {BitmapSyncMode::kAlways, false, Union(u, w)},
      {BitmapSyncMode::kNever, true, Union(s, w)}, {BitmapSyncMode::kNever, false, Union(s, w)},
  };
  for (const Row& row : kRows) {
    SCOPED_TRACE(testing::Message()
                 << "mode " << static_cast<int>(row.mode) << (row.success ? " ok" : " failed"));
    BitmapWorld world;
    Bitmap* bitmap = world.Add("b", s);
    world.store.CreateSuccessor(bitmap);
    for (uint64_t granule : w) world.Write(granule);
    // What was not copied is told in the copy's own units: here half a granule.
    DirtyBitmap not_copied(kDiskBytes, kGranule / 2);
    for (uint64_t granule : u) not_copied.Set({granule * kGranule + kGranule / 2, 1});
    world.store.HandOver(bitmap, row.mode, row.success, &not_copied);
    EXPECT_EQ(world.Dirty("b"), row.expected);
    EXPECT_FALSE(world.Info("b").busy);
    EXPECT_EQ(world.count(), 1);
    // It goes on by itself.
    world.Write(15);
    EXPECT_EQ(world.Dirty("b"), Union(row.expected, {15}));
  }
}

TEST(BitmapHandOver, ADisabledBitmapStaysDisabledAndMissesTheWrites) {
  BitmapWorld world;
  Bitmap* bitmap = world.Add("b", {1}, /*disabled=*/true);
  world.store.CreateSuccessor(bitmap);
  world.Write(2);
  world.store.HandOver(bitmap, BitmapSyncMode::kOnSuccess, false, nullptr);
  EXPECT_EQ(world.Dirty("b"), Granules({1}));
  EXPECT_FALSE(world.Info("b").recording);
  world.Write(3);
  EXPECT_EQ(world.Dirty("b"), Granules({1}));
}

TEST(BitmapHandOver, ACoarserCopyLeavesWholeUnitsDirty) {
  BitmapWorld world;
  ASSERT_TRUE(world.store.Add({.name = "b", .granularity_bytes = 4096}).ok());
  Bitmap* bitmap = *world.store.Find("b");
  world.store.CreateSuccessor(bitmap);
  DirtyBitmap not_copied(kDiskBytes, kGranule);
  not_copied.Set({kGranule, 1});
  world.store.HandOver(bitmap, BitmapSyncMode::kAlways, false, &not_copied);
  EXPECT_EQ(world.Info("b").count_bytes, kGranule);
}

TEST(BitmapHandOver, NoWriteIsMissedWhileItHappens) {
  BitmapWorld world;
  Bitmap* bitmap = world.Add("b");
  std::thread guest([&] {
    for (uint64_t i = 0; i < kDiskBytes / kGranule; ++i) world.Write(i);
  });
  for (int i = 0; i < 50; ++i) {
    world.store.CreateSuccessor(bitmap);
    world.store.HandOver(bitmap, BitmapSyncMode::kNever, true, nullptr);
  }
  guest.join();
  EXPECT_EQ(world.Dirty("b").size(), kDiskBytes / kGranule);
}

TEST(BitmapResize, BitsFollowTheDiskAlsoDuringABackup) {
  BitmapWorld world;
  Bitmap* bitmap = world.Add("b", {1, 15});
  world.store.CreateSuccessor(bitmap);
  ASSERT_TRUE(world.disk->Resize(8 * kGranule).ok());
  ASSERT_TRUE(world.disk->Resize(kDiskBytes).ok());
  world.store.HandOver(bitmap, BitmapSyncMode::kNever, true, nullptr);
  EXPECT_EQ(world.Dirty("b"), Granules({1}));
}

TEST(BitmapAnonymous, IsListedUntilDropped) {
  BitmapWorld world;
  auto bitmap = world.store.AddAnonymous(kGranule, true);
  ASSERT_TRUE(bitmap.ok());
  world.Write(1);
  EXPECT_EQ(GranulesOf(*(*bitmap)->bits()), Granules({1}));
  EXPECT_EQ(world.count(), 1);
  world.store.DropAnonymous(*bitmap);
  EXPECT_EQ(world.count(), 0);
}

}  // namespace
}  // namespace tidemark::graph
