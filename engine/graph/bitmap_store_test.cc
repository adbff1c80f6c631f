#include "engine/graph/bitmap_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "engine/graph/bitmap_world.h"
#include "engine/graph/limits.h"

namespace tidemark::graph {
namespace {

using storage::MemoryStorage;
using testing::HasSubstr;

// ---- Adding ----

TEST(BitmapAdd, ANewBitmapIsCleanAndRecords) {
  BitmapWorld world;
  world.Write(3);
  world.Add("b");
  EXPECT_EQ(world.Info("b").count_bytes, 0);
  EXPECT_TRUE(world.Info("b").recording);
  world.Write(4);
  EXPECT_EQ(world.Dirty("b"), Granules({4}));
  EXPECT_EQ(world.Info("b").count_bytes, kGranule);
}

TEST(BitmapAdd, ADisabledBitmapDoesNotRecord) {
  BitmapWorld world;
  world.Add("b", {}, /*disabled=*/true);
  world.Write(4);
  EXPECT_FALSE(world.Info("b").recording);
  EXPECT_EQ(world.Dirty("b"), Granules());
}

TEST(BitmapAdd, NamesMayHoldAnyBytesWithinTheLimit) {
  BitmapWorld world;
  world.Add("a b/\"c\"\xc3\xa9");
  world.Add(std::string(kBitmapNameLengthMax, 'x'));
  EXPECT_EQ(ReasonOf(world.store.Add({.name = ""}).status()), Reason::kInvalidField);
  const std::string long_name(kBitmapNameLengthMax + 1, 'x');
  const absl::Status status = world.store.Add({.name = long_name}).status();
  EXPECT_EQ(ReasonOf(status), Reason::kInvalidField);
  EXPECT_THAT(std::string(status.message()), HasSubstr(long_name));
  EXPECT_EQ(world.count(), 2);
}

TEST(BitmapAdd, ATakenNameIsRefused) {
  BitmapWorld world;
  world.Add("b");
  const absl::Status status = world.store.Add({.name = "b"}).status();
  EXPECT_EQ(ReasonOf(status), Reason::kBitmapExists);
  EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(status.message()), HasSubstr("'b'"));
  EXPECT_EQ(world.count(), 1);
}

TEST(BitmapAdd, GranularityIsAPowerOfTwoWithinLimits) {
  for (const uint64_t bad : {uint64_t{0}, uint64_t{1}, uint64_t{256}, uint64_t{513}, uint64_t{3000},
                             uint64_t{1} << 32}) {
    BitmapWorld world;
    const absl::Status status = world.store.Add({.name = "b", .granularity_bytes = bad}).status();
    EXPECT_EQ(ReasonOf(status), Reason::kInvalidField);
    EXPECT_THAT(std::string(status.message()), HasSubstr(std::to_string(bad)));
    EXPECT_EQ(world.count(), 0);
  }
  for (const uint64_t good : {uint64_t{512}, uint64_t{1} << 20, uint64_t{1} << 31}) {
    BitmapWorld world;
    EXPECT_TRUE(world.store.Add({.name = "b", .granularity_bytes = good}).ok()) << good;
    EXPECT_EQ(world.Info("b").granularity_bytes, good);
  }
}

TEST(BitmapAdd, ABitmapTooLargeForMemoryIsRefused) {
  FakeDriver driver(uint64_t{1} << 62);
  BitmapStore store("huge", false, &driver, std::make_shared<TrackedBitmaps>());
  EXPECT_EQ(ReasonOf(store.Add({.name = "b", .granularity_bytes = 512}).status()),
            Reason::kLimitReached);
}

// Declares a cluster size.
class Clustered final : public storage::ForwardingStorage {
 public:
  Clustered(uint32_t cluster_bytes)
      : ForwardingStorage(std::make_shared<MemoryStorage>(kDiskBytes)),
        cluster_bytes_(cluster_bytes) {}
  storage::Limits limits() const override { return {.cluster_size_bytes = cluster_bytes_}; }

 private:
  const uint32_t cluster_bytes_;
};

TEST(BitmapAdd, DefaultGranularityIsTheClusterSizeWithinLimits) {
  const std::pair<uint32_t, uint64_t> kCases[] = {{0, 65536},     {512, 4096},    {4096, 4096},
                                                  {32768, 32768}, {65536, 65536}, {2 << 20, 65536}};
  for (const auto& [cluster_bytes, expected] : kCases) {
    FakeDriver driver(std::make_shared<Clustered>(cluster_bytes));
    BitmapStore store("disk0", false, &driver, std::make_shared<TrackedBitmaps>());
    ASSERT_TRUE(store.Add({.name = "b"}).ok());
    EXPECT_EQ(store.List()[0].granularity_bytes, expected) << cluster_bytes;
  }
}

TEST(BitmapAdd, APersistentOneNeedsADriverThatStoresIt) {
  BitmapWorld world;
  world.driver.stores_bitmaps = false;
  const absl::Status status = world.store.Add({.name = "b", .persistent = true}).status();
  EXPECT_EQ(ReasonOf(status), Reason::kNodeLacksFeature);
  EXPECT_THAT(std::string(status.message()), HasSubstr("'disk0'"));
  world.driver.stores_bitmaps = true;
  ASSERT_TRUE(world.store.Add({.name = "b", .persistent = true}).ok());
  EXPECT_TRUE(world.Info("b").persistent);
  EXPECT_EQ(world.store.Stored().size(), 1);
}

TEST(BitmapAdd, APersistentOneTooManyForTheImageIsRefusedAndSoIsADiskTooLargeForAll) {
  BitmapWorld world;
  world.driver.storable_bytes_max = 2 * kDiskBytes;
  ASSERT_TRUE(world.store.Add({.name = "b1", .persistent = true}).ok());
  ASSERT_TRUE(world.disk->Resize(2 * kDiskBytes).ok());
  const absl::Status too_many = world.store.Add({.name = "b2", .persistent = true}).status();
  EXPECT_EQ(ReasonOf(too_many), Reason::kLimitReached);
  ASSERT_TRUE(world.disk->Resize(kDiskBytes).ok());
  ASSERT_TRUE(world.store.Add({.name = "b2", .persistent = true}).ok());
  EXPECT_EQ(ReasonOf(world.disk->Resize(kDiskBytes + kGranule)), Reason::kLimitReached);
  EXPECT_EQ(ReasonOf(world.disk->Write(kDiskBytes, Filled(1, 1))), Reason::kLimitReached);
  // Those that are not stored do not count.
  ASSERT_TRUE(world.store.Add({.name = "b3"}).ok());
  ASSERT_TRUE(world.disk->Resize(kDiskBytes / 2).ok());
}

TEST(BitmapAdd, UndoTakesItAway) {
  BitmapWorld world;
  auto change = world.store.Add({.name = "b"});
  change->undo();
  EXPECT_EQ(world.count(), 0);
  world.Write(1);
}

TEST(BitmapList, WhatJobsKeepBesideTheBitmapsIsCountedUntilTheyEnd) {
  BitmapWorld world;
  const uint64_t before = world.store.memory_bytes();
  uint64_t bytes = 1000;
  world.store.CountAlso(&bytes, [&bytes] { return bytes; });
  world.store.CountAlso(&world, [] { return 1; });
  EXPECT_EQ(world.store.memory_bytes(), before + 1001);
  bytes = 5000;
  EXPECT_EQ(world.store.memory_bytes(), before + 5001);
  world.store.CountNoMore(&bytes);
  EXPECT_EQ(world.store.memory_bytes(), before + 1);
}

TEST(BitmapList, ShowsTheNewestFirst) {
  BitmapWorld world;
  world.Add("a");
  world.Add("b");
  ASSERT_TRUE(world.store.AddAnonymous(kGranule, true).ok());
  std::vector<std::string> names;
  for (const auto& info : world.store.List()) names.push_back(info.name);
  EXPECT_EQ(names, std::vector<std::string>({"", "b", "a"}));
}

// ---- Changing ----

TEST(BitmapChange, AnUnknownNameIsRefusedByEveryVerb) {
  BitmapWorld world;
  Bitmap* other = world.Add("other");
  for (const absl::Status& status :
       {world.store.Remove("b").status(), world.store.Clear("b").status(),
        world.store.Enable("b").status(), world.store.Disable("b").status(),
        world.store.Merge("b", {other}).status(), world.store.Find("").status()}) {
    EXPECT_EQ(ReasonOf(status), Reason::kBitmapNotFound);
    EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  }
}

TEST(BitmapChange, EnableAndDisableMayBeRepeatedAndUndone) {
  BitmapWorld world;
  world.Add("b");
  EXPECT_TRUE(world.store.Enable("b").ok());
  auto change = world.store.Disable("b");
  EXPECT_TRUE(world.store.Disable("b").ok());
  world.Write(1);
  EXPECT_EQ(world.Dirty("b"), Granules());
  change->undo();
  EXPECT_TRUE(world.Info("b").recording);
  world.Write(2);
  EXPECT_EQ(world.Dirty("b"), Granules({2}));
}

TEST(BitmapChange, ClearIsUndoneToTheSameBits) {
  BitmapWorld world;
  world.Add("b", {1, 5});
  auto change = world.store.Clear("b");
  ASSERT_TRUE(change.ok());
  EXPECT_EQ(world.Dirty("b"), Granules());
  change->undo();
  EXPECT_EQ(world.Dirty("b"), Granules({1, 5}));
}

TEST(BitmapChange, ADisabledBitmapCanBeClearedAndMergedInto) {
  BitmapWorld world;
  world.Add("b", {1}, /*disabled=*/true);
  Bitmap* other = world.Add("other", {2});
  EXPECT_TRUE(world.store.Merge("b", {other}).ok());
  EXPECT_EQ(world.Dirty("b"), Granules({1, 2}));
  EXPECT_TRUE(world.store.Clear("b").ok());
}

TEST(BitmapChange, RemoveReservesUntilItIsCommitted) {
  BitmapWorld world;
  world.Add("b", {1});
  auto change = world.store.Remove("b");
  ASSERT_TRUE(change.ok());
  EXPECT_EQ(ReasonOf(world.store.Add({.name = "b"}).status()), Reason::kBitmapExists);
  EXPECT_EQ(ReasonOf(world.store.Clear("b").status()), Reason::kBitmapBusy);
  change->undo();
  EXPECT_EQ(world.Dirty("b"), Granules({1}));
  auto again = world.store.Remove("b");
  again->commit();
  EXPECT_EQ(world.count(), 0);
  world.Add("b");
}

TEST(BitmapMerge, OrsAllSourcesIn) {
  BitmapWorld world;
  BitmapWorld other_node;
  world.Add("target", {0});
  Bitmap* near = world.Add("near", {1});
  Bitmap* far = other_node.Add("far", {2});
  auto change = world.store.Merge("target", {near, far});
  ASSERT_TRUE(change.ok());
  EXPECT_EQ(world.Dirty("target"), Granules({0, 1, 2}));
  EXPECT_EQ(world.Dirty("near"), Granules({1}));
  change->undo();
  EXPECT_EQ(world.Dirty("target"), Granules({0}));
}

TEST(BitmapMerge, OfItselfChangesNothing) {
  BitmapWorld world;
  Bitmap* bitmap = world.Add("b", {3});
  EXPECT_TRUE(world.store.Merge("b", {bitmap}).ok());
  EXPECT_EQ(world.Dirty("b"), Granules({3}));
}

TEST(BitmapMerge, BetweenGranularitiesCoversEveryTouchedGranule) {
  BitmapWorld world;
  world.Add("coarse");
  ASSERT_TRUE(world.store.Add({.name = "fine", .granularity_bytes = 4096}).ok());
  Bitmap* fine = *world.store.Find("fine");
  fine->bits()->Set({kGranule + 4096, 1});
  ASSERT_TRUE(world.store.Merge("coarse", {fine}).ok());
  EXPECT_EQ(world.Dirty("coarse"), Granules({1}));
  Bitmap* coarse = *world.store.Find("coarse");
  ASSERT_TRUE(world.store.Merge("fine", {coarse}).ok());
  EXPECT_EQ(world.Info("fine").count_bytes, kGranule);
}

TEST(BitmapMerge, WithoutSourcesIsRefused) {
  BitmapWorld world;
  world.Add("b");
  EXPECT_EQ(ReasonOf(world.store.Merge("b", {}).status()), Reason::kInvalidField);
}

TEST(BitmapMerge, OfAnotherSizeIsRefusedAndNothingIsMerged) {
  BitmapWorld world;
  world.Add("b");
  Bitmap* good = world.Add("good", {1});
  FakeDriver small(kGranule);
  BitmapStore other("small", false, &small, std::make_shared<TrackedBitmaps>());
  ASSERT_TRUE(other.Add({.name = "s"}).ok());
  const absl::Status status = world.store.Merge("b", {good, *other.Find("s")}).status();
  EXPECT_EQ(ReasonOf(status), Reason::kSizeMismatch);
  EXPECT_THAT(std::string(status.message()), HasSubstr(std::to_string(kDiskBytes)));
  EXPECT_THAT(std::string(status.message()), HasSubstr(std::to_string(kGranule)));
  EXPECT_EQ(world.Dirty("b"), Granules());
}

// ---- States that refuse ----

// Which of the verbs a bitmap in some state refuses, all for `reason`.
void ExpectRefused(BitmapWorld& world, Reason reason, const std::set<std::string>& verbs) {
  Bitmap* bitmap = *world.store.Find("b");
  Bitmap* other = *world.store.Find("other");
  const auto expect = [&](const std::string& verb, const absl::Status& status) {
    if (verbs.contains(verb)) {
      EXPECT_EQ(ReasonOf(status), reason) << verb << ": " << status;
      EXPECT_THAT(std::string(status.message()), HasSubstr("'b'"));
    } else {
      EXPECT_TRUE(status.ok()) << verb << ": " << status;
    }
  };
  expect("clear", world.store.Clear("b").status());
  expect("merge target", world.store.Merge("b", {other}).status());
  expect("merge source", world.store.Merge("other", {bitmap}).status());
  expect("disable", world.store.Disable("b").status());
  expect("enable", world.store.Enable("b").status());
  expect("read", world.store.Check(*bitmap, BitmapUse::kRead));
  expect("modify", world.store.Check(*bitmap, BitmapUse::kModify));
  auto remove = world.store.Remove("b");
  if (remove.ok()) remove->undo();
  expect("remove", remove.status());
}

const std::set<std::string> kAllVerbs = {"clear",  "merge target", "merge source", "disable",
                                         "enable", "read",         "modify",       "remove"};

TEST(BitmapState, ABusyBitmapRefusesEverythingButGoesOnRecording) {
  BitmapWorld world;
  Bitmap* bitmap = world.Add("b");
  world.Add("other");
  world.store.BeginUse(bitmap);
  EXPECT_TRUE(world.Info("b").busy);
  ExpectRefused(world, Reason::kBitmapBusy, kAllVerbs);
  world.Write(2);
  EXPECT_EQ(world.Dirty("b"), Granules({2}));
  world.Add("another one is fine");
  world.store.EndUse(bitmap);
  ExpectRefused(world, Reason::kBitmapBusy, {});
}

TEST(BitmapState, AnInconsistentBitmapCanOnlyBeRemoved) {
  BitmapWorld world(false, {FromImage("b", true, /*inconsistent=*/true)});
  world.Add("other");
  EXPECT_TRUE(world.Info("b").inconsistent);
  EXPECT_FALSE(world.Info("b").recording);
  world.Write(0);
  EXPECT_EQ(world.Info("b").count_bytes, 0);
  EXPECT_EQ(ReasonOf(world.store.CheckResize(kDiskBytes)), Reason::kBitmapInconsistent);
  EXPECT_EQ(ReasonOf(world.store.Add({.name = "b"}).status()), Reason::kBitmapExists);
  // It is stored again as it was found.
  EXPECT_TRUE(world.store.Stored()[0].inconsistent);
  auto others = kAllVerbs;
  others.erase("remove");
  ExpectRefused(world, Reason::kBitmapInconsistent, others);
  world.store.Remove("b")->commit();
  EXPECT_TRUE(world.store.CheckResize(kDiskBytes).ok());
}

TEST(BitmapState, APersistentBitmapOfAReadOnlyNodeCanBeReadAndDisabled) {
  BitmapWorld world(/*read_only=*/true, {FromImage("b")});
  world.Add("other");  // A new one is accepted.
  ExpectRefused(world, Reason::kBitmapReadOnly, {"clear", "merge target", "modify", "remove"});
}

TEST(BitmapLoad, AReloadReversesTheOrderAndKeepsTheRest) {
  BitmapWorld world(false, {FromImage("oldest", false), FromImage("newest", true)});
  EXPECT_EQ(world.store.List()[0].name, "newest");
  world.Write(1);
  EXPECT_EQ(world.Dirty("newest"), Granules({1}));
  EXPECT_EQ(world.Dirty("oldest"), Granules());
  const std::vector<StoredBitmap> stored = world.store.Stored();
  ASSERT_EQ(stored.size(), 2);
  EXPECT_EQ(stored[1].name, "oldest");
  EXPECT_FALSE(stored[1].enabled);
  EXPECT_EQ(GranulesOf(*stored[0].bits), Granules({1}));
  BitmapWorld reloaded(false, stored);
  EXPECT_EQ(reloaded.store.List()[0].name, "oldest");
}

}  // namespace
}  // namespace tidemark::graph
