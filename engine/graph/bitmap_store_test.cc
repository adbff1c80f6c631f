#include "engine/graph/bitmap_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <thread>

#include "engine/base/error.h"
#include "engine/graph/fake_driver.h"
#include "engine/graph/limits.h"
#include "engine/graph/node_options.h"

namespace tidemark::graph {
namespace {

using bitmap::DirtyBitmap;
using storage::MemoryStorage;
using testing::HasSubstr;

constexpr uint64_t kGranule = 65536;
constexpr uint64_t kDiskBytes = 16 * kGranule;

Reason ReasonOf(const absl::Status& status) {
  const auto details = DetailsOf(status);
  EXPECT_TRUE(details.has_value()) << status;
  return details.has_value() ? details->reason : Reason::kQemuRefused;
}

// The model: dirty granules by number.
using Granules = std::set<uint64_t>;

Granules GranulesOf(const DirtyBitmap& bits) {
  Granules granules;
  for (uint64_t i = 0; i < kDiskBytes / kGranule; ++i) {
    if (bits.IsDirty(i * kGranule)) granules.insert(i);
  }
  return granules;
}

Granules Union(Granules a, const Granules& b) {
  a.insert(b.begin(), b.end());
  return a;
}

// A node's bitmaps and its data plane, over memory.
class World {
 public:
  explicit World(bool read_only = false, std::vector<StoredBitmap> loaded = {})
      : store("disk0", read_only, &driver, tracked_) {
    driver.stores_bitmaps = true;
    disk = WithOptions(driver.storage(), "disk0", {.read_only = read_only}, tracked_);
    store.Load(std::move(loaded));
  }

  // A bitmap of default granularity, with these granules dirty.
  Bitmap* Add(const std::string& name, const Granules& dirty = {}, bool disabled = false) {
    EXPECT_TRUE(
        store.Add({.name = name, .granularity_bytes = kGranule, .disabled = disabled}).ok());
    Bitmap* bitmap = *store.Find(name);
    for (uint64_t granule : dirty) bitmap->bits()->Set({granule * kGranule, 1});
    return bitmap;
  }
  void Write(uint64_t granule) { ASSERT_TRUE(disk->Write(granule * kGranule, Filled(1, 1)).ok()); }
  Granules Dirty(absl::string_view name) { return GranulesOf(*(*store.Find(name))->bits()); }
  BitmapInfo Info(absl::string_view name) {
    for (const BitmapInfo& info : store.List()) {
      if (info.name == name) return info;
    }
    ADD_FAILURE() << "no bitmap " << name;
    return {};
  }
  size_t count() const { return store.List().size(); }

  FakeDriver driver{kDiskBytes};

 private:
  const std::shared_ptr<TrackedBitmaps> tracked_ = std::make_shared<TrackedBitmaps>();

 public:
  BitmapStore store;
  std::shared_ptr<storage::Storage> disk;
};

StoredBitmap FromImage(const std::string& name, bool enabled = true, bool inconsistent = false) {
  return {name, enabled, inconsistent, std::make_shared<DirtyBitmap>(kDiskBytes, kGranule)};
}

// ---- Adding ----

TEST(BitmapAdd, ANewBitmapIsCleanAndRecords) {
  World world;
  world.Write(3);
  world.Add("b");
  EXPECT_EQ(world.Info("b").count_bytes, 0);
  EXPECT_TRUE(world.Info("b").recording);
  world.Write(4);
  EXPECT_EQ(world.Dirty("b"), Granules({4}));
  EXPECT_EQ(world.Info("b").count_bytes, kGranule);
}

TEST(BitmapAdd, ADisabledBitmapDoesNotRecord) {
  World world;
  world.Add("b", {}, /*disabled=*/true);
  world.Write(4);
  EXPECT_FALSE(world.Info("b").recording);
  EXPECT_EQ(world.Dirty("b"), Granules());
}

TEST(BitmapAdd, NamesMayHoldAnyBytesWithinTheLimit) {
  World world;
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
  World world;
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
    World world;
    const absl::Status status = world.store.Add({.name = "b", .granularity_bytes = bad}).status();
    EXPECT_EQ(ReasonOf(status), Reason::kInvalidField);
    EXPECT_THAT(std::string(status.message()), HasSubstr(std::to_string(bad)));
    EXPECT_EQ(world.count(), 0);
  }
  for (const uint64_t good : {uint64_t{512}, uint64_t{1} << 20, uint64_t{1} << 31}) {
    World world;
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
  World world;
  world.driver.stores_bitmaps = false;
  const absl::Status status = world.store.Add({.name = "b", .persistent = true}).status();
  EXPECT_EQ(ReasonOf(status), Reason::kNodeLacksFeature);
  EXPECT_THAT(std::string(status.message()), HasSubstr("'disk0'"));
  world.driver.stores_bitmaps = true;
  ASSERT_TRUE(world.store.Add({.name = "b", .persistent = true}).ok());
  EXPECT_TRUE(world.Info("b").persistent);
  EXPECT_EQ(world.store.Stored().size(), 1);
}

TEST(BitmapAdd, UndoTakesItAway) {
  World world;
  auto change = world.store.Add({.name = "b"});
  change->undo();
  EXPECT_EQ(world.count(), 0);
  world.Write(1);
}

TEST(BitmapList, ShowsTheNewestFirst) {
  World world;
  world.Add("a");
  world.Add("b");
  ASSERT_TRUE(world.store.AddAnonymous(kGranule, true).ok());
  std::vector<std::string> names;
  for (const auto& info : world.store.List()) names.push_back(info.name);
  EXPECT_EQ(names, std::vector<std::string>({"", "b", "a"}));
}

// ---- Changing ----

TEST(BitmapChange, AnUnknownNameIsRefusedByEveryVerb) {
  World world;
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
  World world;
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
  World world;
  world.Add("b", {1, 5});
  auto change = world.store.Clear("b");
  ASSERT_TRUE(change.ok());
  EXPECT_EQ(world.Dirty("b"), Granules());
  change->undo();
  EXPECT_EQ(world.Dirty("b"), Granules({1, 5}));
}

TEST(BitmapChange, ADisabledBitmapCanBeClearedAndMergedInto) {
  World world;
  world.Add("b", {1}, /*disabled=*/true);
  Bitmap* other = world.Add("other", {2});
  EXPECT_TRUE(world.store.Merge("b", {other}).ok());
  EXPECT_EQ(world.Dirty("b"), Granules({1, 2}));
  EXPECT_TRUE(world.store.Clear("b").ok());
}

TEST(BitmapChange, RemoveReservesUntilItIsCommitted) {
  World world;
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
  World world;
  World other_node;
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
  World world;
  Bitmap* bitmap = world.Add("b", {3});
  EXPECT_TRUE(world.store.Merge("b", {bitmap}).ok());
  EXPECT_EQ(world.Dirty("b"), Granules({3}));
}

TEST(BitmapMerge, BetweenGranularitiesCoversEveryTouchedGranule) {
  World world;
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
  World world;
  world.Add("b");
  EXPECT_EQ(ReasonOf(world.store.Merge("b", {}).status()), Reason::kInvalidField);
}

TEST(BitmapMerge, OfAnotherSizeIsRefusedAndNothingIsMerged) {
  World world;
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
void ExpectRefused(World& world, Reason reason, const std::set<std::string>& verbs) {
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
  World world;
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
  World world(false, {FromImage("b", true, /*inconsistent=*/true)});
  world.Add("other");
  EXPECT_TRUE(world.Info("b").inconsistent);
  EXPECT_FALSE(world.Info("b").recording);
  world.Write(0);
  EXPECT_EQ(world.Info("b").count_bytes, 0);
  EXPECT_EQ(ReasonOf(world.store.CheckResize()), Reason::kBitmapInconsistent);
  EXPECT_EQ(ReasonOf(world.store.Add({.name = "b"}).status()), Reason::kBitmapExists);
  // It is stored again as it was found.
  EXPECT_TRUE(world.store.Stored()[0].inconsistent);
  auto others = kAllVerbs;
  others.erase("remove");
  ExpectRefused(world, Reason::kBitmapInconsistent, others);
  world.store.Remove("b")->commit();
  EXPECT_TRUE(world.store.CheckResize().ok());
}

TEST(BitmapState, APersistentBitmapOfAReadOnlyNodeCanBeReadAndDisabled) {
  World world(/*read_only=*/true, {FromImage("b")});
  world.Add("other");  // A new one is accepted.
  ExpectRefused(world, Reason::kBitmapReadOnly, {"clear", "merge target", "modify", "remove"});
}

TEST(BitmapLoad, AReloadReversesTheOrderAndKeepsTheRest) {
  World world(false, {FromImage("oldest", false), FromImage("newest", true)});
  EXPECT_EQ(world.store.List()[0].name, "newest");
  world.Write(1);
  EXPECT_EQ(world.Dirty("newest"), Granules({1}));
  EXPECT_EQ(world.Dirty("oldest"), Granules());
  const std::vector<StoredBitmap> stored = world.store.Stored();
  ASSERT_EQ(stored.size(), 2);
  EXPECT_EQ(stored[1].name, "oldest");
  EXPECT_FALSE(stored[1].enabled);
  EXPECT_EQ(GranulesOf(*stored[0].bits), Granules({1}));
  World reloaded(false, stored);
  EXPECT_EQ(reloaded.store.List()[0].name, "oldest");
}

// ---- Backups ----

TEST(BitmapHandOver, DuringABackupTheBitmapStandsStillAndItsSuccessorRecords) {
  World world;
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
  World world;
  Bitmap* bitmap = world.Add("b", {1});
  world.store.CreateSuccessor(bitmap);
  world.Write(2);
  world.store.UndoSuccessor(bitmap);
  EXPECT_EQ(world.count(), 1);
  EXPECT_FALSE(world.Info("b").busy);
  EXPECT_EQ(world.Dirty("b"), Granules({1, 2}));
}

TEST(BitmapHandOver, APersistentBitmapStoredDuringABackupHoldsBoth) {
  World world(false, {FromImage("b")});
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
    World world;
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
  World world;
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
  World world;
  ASSERT_TRUE(world.store.Add({.name = "b", .granularity_bytes = 4096}).ok());
  Bitmap* bitmap = *world.store.Find("b");
  world.store.CreateSuccessor(bitmap);
  DirtyBitmap not_copied(kDiskBytes, kGranule);
  not_copied.Set({kGranule, 1});
  world.store.HandOver(bitmap, BitmapSyncMode::kAlways, false, &not_copied);
  EXPECT_EQ(world.Info("b").count_bytes, kGranule);
}

TEST(BitmapHandOver, NoWriteIsMissedWhileItHappens) {
  World world;
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
  World world;
  Bitmap* bitmap = world.Add("b", {1, 15});
  world.store.CreateSuccessor(bitmap);
  ASSERT_TRUE(world.disk->Resize(8 * kGranule).ok());
  ASSERT_TRUE(world.disk->Resize(kDiskBytes).ok());
  world.store.HandOver(bitmap, BitmapSyncMode::kNever, true, nullptr);
  EXPECT_EQ(world.Dirty("b"), Granules({1}));
}

TEST(BitmapAnonymous, IsListedUntilDropped) {
  World world;
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
