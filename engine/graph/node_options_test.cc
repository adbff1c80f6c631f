#include "engine/graph/node_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <thread>
#include <utility>
#include <vector>

#include "engine/base/error.h"
#include "engine/bitmap/limits.h"
#include "engine/graph/detect_zeroes.h"
#include "engine/graph/fake_driver.h"
#include "engine/storage/failing_storage.h"

namespace tidemark::graph {
namespace {

using bitmap::DirtyBitmap;
using storage::MemoryStorage;

constexpr uint64_t kGranule = 4096;
constexpr uint64_t kDiskBytes = 64 * kGranule;

// A node's data plane over memory, with one bitmap that records.
struct World {
  explicit World(NodeOptions options, std::shared_ptr<storage::Storage> below = nullptr) {
    if (below == nullptr) below = memory;
    tracked->Set({bits}, {bits, standing_still});
    top = WithOptions(std::move(below), "disk0", options, tracked);
  }

  std::shared_ptr<MemoryStorage> memory = std::make_shared<MemoryStorage>(kDiskBytes);
  std::shared_ptr<DirtyBitmap> bits = std::make_shared<DirtyBitmap>(kDiskBytes, kGranule);
  std::shared_ptr<DirtyBitmap> standing_still = std::make_shared<DirtyBitmap>(kDiskBytes, kGranule);
  std::shared_ptr<TrackedBitmaps> tracked = std::make_shared<TrackedBitmaps>();
  std::shared_ptr<storage::Storage> top;
};

TEST(Tracking, OneByteMarksTheWholeGranule) {
  World world({});
  ASSERT_TRUE(world.top->Write(kGranule + 17, Filled(1, 1)).ok());
  EXPECT_EQ(world.bits->CountBytes(), kGranule);
  EXPECT_TRUE(world.bits->IsDirty(kGranule));
  EXPECT_TRUE(world.standing_still->IsEmpty());
}

TEST(Tracking, AWriteAcrossABoundaryMarksBothGranules) {
  World world({});
  ASSERT_TRUE(world.top->Write(kGranule - 1, Filled(2, 1)).ok());
  EXPECT_EQ(world.bits->CountBytes(), 2 * kGranule);
}

TEST(Tracking, ZeroesMark) {
  World world({});
  ASSERT_TRUE(world.top->WriteZeroes({0, kGranule}).ok());
  EXPECT_EQ(world.bits->CountBytes(), kGranule);
}

TEST(Tracking, WhatIsSaidToChangeNothingDoesNotMark) {
  World world({.detect_zeroes = DetectZeroes::kOn});
  ASSERT_TRUE(world.top->Write(0, Filled(kGranule, 1), {.unchanged = true}).ok());
  ASSERT_TRUE(world.top->Write(kGranule, Filled(kGranule, 0), {.unchanged = true}).ok());
  ASSERT_TRUE(world.top->WriteZeroes({2 * kGranule, kGranule}, {.unchanged = true}).ok());
  EXPECT_TRUE(world.bits->IsEmpty());
}

TEST(Tracking, WhatIsToBeWrittenWhereNothingIsIsHandedOnAsSuch) {
  World world({.detect_zeroes = DetectZeroes::kOn});
  for (const int fill : {0, 1}) {
    const absl::Status status =
        world.top->Write(0, Filled(kGranule, fill), {.only_unallocated = true});
    EXPECT_EQ(DetailsOf(status)->reason, Reason::kFeatureUnsupported) << status;
  }
}

TEST(Tracking, ReadsDoNotMark) {
  World world({});
  auto buffer = Filled(kGranule, 0);
  ASSERT_TRUE(world.top->Read(0, absl::MakeSpan(buffer)).ok());
  ASSERT_TRUE(world.top->Map({0, kGranule}).ok());
  ASSERT_TRUE(world.top->Flush().ok());
  EXPECT_TRUE(world.bits->IsEmpty());
}

TEST(Tracking, AFailedWriteMarksToo) {
  auto failing =
      std::make_shared<storage::FailingStorage>(std::make_shared<MemoryStorage>(kDiskBytes));
  failing->AddRule({.status = absl::UnknownError("broken"), .verb = storage::Verb::kWrite});
  World world({}, failing);
  EXPECT_FALSE(world.top->Write(0, Filled(1, 1)).ok());
  EXPECT_EQ(world.bits->CountBytes(), kGranule);
}

TEST(Tracking, ADiscardMarksOnlyWhereItHasEffect) {
  World ignoring({.discard = DiscardMode::kIgnore});
  ASSERT_TRUE(ignoring.top->Write(0, Filled(1, 1)).ok());
  ignoring.bits->ClearAll();
  ASSERT_TRUE(ignoring.top->Discard({0, kGranule}).ok());
  EXPECT_TRUE(ignoring.bits->IsEmpty());
  EXPECT_EQ(ignoring.memory->Contents({0, 1}), "\x01");
  EXPECT_FALSE(ignoring.top->limits().can_discard);

  World unmapping({.discard = DiscardMode::kUnmap});
  ASSERT_TRUE(unmapping.top->Discard({0, kGranule}).ok());
  EXPECT_EQ(unmapping.bits->CountBytes(), kGranule);
}

TEST(Tracking, APlacedWriteMarksWhenItIsFinishedOrGivenUp) {
  auto placing = std::make_shared<PlacingStorage>(std::make_shared<MemoryStorage>(kDiskBytes));
  World world({}, placing);
  {
    auto abandoned = world.top->PlaceWrite({0, kGranule});
    ASSERT_TRUE(abandoned.ok() && *abandoned != nullptr);
    EXPECT_TRUE(world.bits->IsEmpty());
  }
  EXPECT_EQ(world.bits->CountBytes(), kGranule);
  world.bits->ClearAll();
  auto placement = world.top->PlaceWrite({0, kGranule});
  EXPECT_EQ((*placement)->pieces().size(), 1);
  EXPECT_TRUE(world.bits->IsEmpty());
  EXPECT_TRUE((*placement)->Finish().ok());
  EXPECT_EQ(world.bits->CountBytes(), kGranule);

  placing->finish_status = absl::UnknownError("broken");
  auto failing = world.top->PlaceWrite({kGranule, kGranule});
  EXPECT_FALSE((*failing)->Finish().ok());
  EXPECT_EQ(world.bits->CountBytes(), 2 * kGranule);
}

TEST(Tracking, BitmapsFollowTheSizeOfTheDisk) {
  World world({});
  ASSERT_TRUE(world.top->Write(kDiskBytes - 1, Filled(1, 1)).ok());
  ASSERT_TRUE(world.top->Resize(2 * kDiskBytes).ok());
  EXPECT_EQ(world.bits->size_bytes(), 2 * kDiskBytes);
  EXPECT_EQ(world.standing_still->size_bytes(), 2 * kDiskBytes);
  EXPECT_EQ(world.bits->CountBytes(), kGranule);
  ASSERT_TRUE(world.top->Resize(kGranule).ok());
  ASSERT_TRUE(world.top->Resize(kDiskBytes).ok());
  EXPECT_TRUE(world.bits->IsEmpty());
}

TEST(Tracking, ADiskIsNotMadeLargerThanItsBitmapsCanBe) {
  World world({});
  const absl::Status status = world.top->Resize((bitmap::kGranuleCountMax + 1) * kGranule);
  EXPECT_EQ(DetailsOf(status)->reason, Reason::kLimitReached);
  EXPECT_EQ(world.top->size_bytes(), kDiskBytes);
}

TEST(Tracking, AFileThatGrowsByBeingWrittenIsMarkedThereToo) {
  World world({});
  ASSERT_TRUE(world.top->Write(kDiskBytes + kGranule, Filled(1, 1)).ok());
  EXPECT_EQ(world.bits->size_bytes(), kDiskBytes + kGranule + 1);
  EXPECT_TRUE(world.bits->IsDirty(kDiskBytes + kGranule));
}

TEST(Tracking, AFileDoesNotGrowByBeingWrittenFurtherThanItsBitmapsCan) {
  World world({});
  const Range beyond = {bitmap::kGranuleCountMax * kGranule, 1};
  for (const absl::Status& status :
       {world.top->Write(beyond.offset_bytes, Filled(1, 1)), world.top->WriteZeroes(beyond),
        world.top->PlaceWrite(beyond).status()}) {
    EXPECT_EQ(DetailsOf(status)->reason, Reason::kLimitReached) << status;
  }
  EXPECT_EQ(world.top->size_bytes(), kDiskBytes);
}

// Runs `meanwhile` when its size is next asked for after a write, and tells the size from before: a
// writer that was held up on its way from the disk to the bitmaps.
class HeldUp final : public storage::ForwardingStorage {
 public:
  using ForwardingStorage::ForwardingStorage;

  uint64_t size_bytes() const override {
    const uint64_t size_bytes =
        told_size_bytes > 0 ? told_size_bytes : ForwardingStorage::size_bytes();
    if (written_ && meanwhile != nullptr) std::exchange(meanwhile, nullptr)();
    return size_bytes;
  }
  absl::Status Write(uint64_t offset_bytes, storage::ConstBytes data,
                     storage::WriteOptions options) override {
    const absl::Status status = next().Write(offset_bytes, data, options);
    written_ = true;
    return status;
  }
  absl::Status WriteZeroes(Range range, storage::ZeroOptions options) override {
    const absl::Status status = next().WriteZeroes(range, options);
    written_ = true;
    return status;
  }

  mutable std::function<void()> meanwhile;
  uint64_t told_size_bytes = 0;

 private:
  bool written_ = false;
};

TEST(Tracking, AWriterWhoKnowsAnOldSizeTakesNoBitsFromOneWhoWroteBeyond) {
  for (const bool zeroes : {false, true}) {
    const auto memory = std::make_shared<MemoryStorage>(kDiskBytes);
    const auto held_up = std::make_shared<HeldUp>(memory);
    World world({}, held_up);
    held_up->meanwhile = [&] {
      ASSERT_TRUE(world.top->Write(kDiskBytes + 9 * kGranule, Filled(kGranule, 1)).ok());
    };
    if (zeroes) {
      ASSERT_TRUE(world.top->WriteZeroes({kDiskBytes, kGranule}).ok());
    } else {
      ASSERT_TRUE(world.top->Write(kDiskBytes, Filled(kGranule, 1)).ok());
    }
    EXPECT_EQ(held_up->meanwhile, nullptr);
    EXPECT_EQ(world.bits->size_bytes(), kDiskBytes + 10 * kGranule);
    EXPECT_TRUE(world.bits->IsDirty(kDiskBytes));
    EXPECT_TRUE(world.bits->IsDirty(kDiskBytes + 9 * kGranule));
    EXPECT_EQ(world.bits->CountBytes(), 2 * kGranule);
    EXPECT_EQ(world.standing_still->size_bytes(), world.bits->size_bytes());
  }
}

TEST(Tracking, AWriterWhoKnowsASizeFromBeforeAResizeDoesNotUndoIt) {
  const auto memory = std::make_shared<MemoryStorage>(kDiskBytes);
  const auto held_up = std::make_shared<HeldUp>(memory);
  World world({}, held_up);
  held_up->meanwhile = [&] { ASSERT_TRUE(world.top->Resize(8 * kGranule).ok()); };
  ASSERT_TRUE(world.top->Write(kDiskBytes, Filled(kGranule, 1)).ok());
  EXPECT_EQ(world.bits->size_bytes(), 8 * kGranule);
  EXPECT_TRUE(world.bits->IsEmpty());
}

TEST(Tracking, WritersWhoMakeAFileGrowTogetherMarkEveryGranule) {
  constexpr uint64_t kGranules = 2000;
  constexpr int kWriters = 4;
  World world({});
  std::vector<std::thread> writers;
  for (int writer = 0; writer < kWriters; ++writer) {
    writers.emplace_back([&, writer] {
      for (uint64_t i = writer; i < kGranules; i += kWriters) {
        ASSERT_TRUE(world.top->Write(kDiskBytes + i * kGranule, Filled(1, 1)).ok());
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  EXPECT_EQ(world.bits->CountBytes(), kGranules * kGranule);
  EXPECT_EQ(world.bits->NextClean(kDiskBytes), world.bits->size_bytes());
}

TEST(Tracking, WhatGrewBelowFurtherThanABitmapCanIsRefusedThere) {
  // A raw node's file was made larger through the file's own node.
  const auto memory = std::make_shared<MemoryStorage>(kDiskBytes);
  const auto grown = std::make_shared<HeldUp>(memory);
  World world({.discard = DiscardMode::kUnmap}, grown);
  grown->told_size_bytes = (bitmap::kGranuleCountMax + 1) * kGranule;
  const absl::Status status = world.top->Write(kDiskBytes, Filled(1, 1));
  ASSERT_TRUE(DetailsOf(status).has_value()) << status;
  EXPECT_EQ(DetailsOf(status)->reason, Reason::kLimitReached);
  ASSERT_TRUE(world.top->Write(kGranule, Filled(1, 1)).ok());
  // Marked although it fails: some of it may have been done.
  EXPECT_FALSE(world.top->Discard({0, 2 * kDiskBytes}).ok());
  world.tracked->Follow(*grown);
  EXPECT_EQ(world.bits->size_bytes(), kDiskBytes);
  EXPECT_EQ(world.bits->CountBytes(), kDiskBytes);
}

TEST(Tracking, BitmapsThatGrewApartAreMergedAllTheSame) {
  World world({});
  DirtyBitmap old_size(kDiskBytes / 2 + 1, 2 * kGranule);
  old_size.Set({0, 1});
  ASSERT_TRUE(world.top->Write(kDiskBytes, Filled(1, 1)).ok());
  world.tracked->MergeInto(world.bits.get(), old_size);
  EXPECT_EQ(world.bits->CountBytes(), 3 * kGranule);
  DirtyBitmap new_size(2 * kDiskBytes, kGranule);
  new_size.Set({kDiskBytes - kGranule, 2 * kDiskBytes});
  world.tracked->MergeInto(world.bits.get(), new_size);
  EXPECT_EQ(world.bits->CountBytes(), 4 * kGranule);
}

TEST(NodeOptions, AReadOnlyNodeRefusesEveryChangeByName) {
  World world({.read_only = true});
  for (const absl::Status& status :
       {world.top->Write(0, Filled(1, 1)), world.top->WriteZeroes({0, 1}),
        world.top->Discard({0, 1}), world.top->Resize(1),
        world.top->PlaceWrite({0, kGranule}).status()}) {
    EXPECT_EQ(DetailsOf(status)->reason, Reason::kNodeReadOnly) << status;
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr("'disk0'"));
  }
  EXPECT_TRUE(world.top->Flush().ok());
  EXPECT_TRUE(world.top->limits().read_only);
  EXPECT_TRUE(world.bits->IsEmpty());
}

TEST(NodeOptions, ForceShareOnlyReads) {
  World world({.force_share = true});
  EXPECT_FALSE(world.top->Write(0, Filled(1, 1)).ok());
}

TEST(NodeOptions, NoFlushDropsFlushes) {
  auto failing =
      std::make_shared<storage::FailingStorage>(std::make_shared<MemoryStorage>(kDiskBytes));
  failing->AddRule({.status = absl::UnknownError("broken"), .verb = storage::Verb::kFlush});
  EXPECT_FALSE(World({}, failing).top->Flush().ok());
  EXPECT_TRUE(World({.cache_no_flush = true}, failing).top->Flush().ok());
}

// Remembers the zeroes that arrive.
class ZeroWatch final : public storage::ForwardingStorage {
 public:
  using ForwardingStorage::ForwardingStorage;
  absl::Status WriteZeroes(Range range, storage::ZeroOptions options) override {
    zeroed.push_back(range);
    unmapped = options.may_unmap;
    return next().WriteZeroes(range, options);
  }
  std::vector<Range> zeroed;
  bool unmapped = false;
};

TEST(NodeOptions, ZeroesAreDetectedOnlyWhereAskedFor) {
  for (const DetectZeroes mode : {DetectZeroes::kOff, DetectZeroes::kOn, DetectZeroes::kUnmap}) {
    for (const DiscardMode discard : {DiscardMode::kIgnore, DiscardMode::kUnmap}) {
      auto watch = std::make_shared<ZeroWatch>(std::make_shared<MemoryStorage>(kDiskBytes));
      World world({.discard = discard, .detect_zeroes = mode}, watch);
      ASSERT_TRUE(world.top->Write(kGranule, Filled(kGranule, 0)).ok());
      ASSERT_TRUE(world.top->Write(0, Filled(kGranule, 1)).ok());
      EXPECT_EQ(world.bits->CountBytes(), 2 * kGranule);
      if (mode == DetectZeroes::kOff) {
        EXPECT_TRUE(watch->zeroed.empty());
      } else {
        EXPECT_EQ(watch->zeroed, std::vector<Range>({{kGranule, kGranule}}));
        EXPECT_EQ(watch->unmapped, mode == DetectZeroes::kUnmap && discard == DiscardMode::kUnmap);
      }
    }
  }
}

TEST(NodeOptions, ZeroesKeepTheirSpaceUnlessDiscardIsUnmap) {
  for (const DiscardMode discard : {DiscardMode::kIgnore, DiscardMode::kUnmap}) {
    auto watch = std::make_shared<ZeroWatch>(std::make_shared<MemoryStorage>(kDiskBytes));
    World world({.discard = discard}, watch);
    ASSERT_TRUE(world.top->WriteZeroes({0, kGranule}, {.may_unmap = true}).ok());
    EXPECT_EQ(watch->unmapped, discard == DiscardMode::kUnmap);
  }
}

TEST(IsAllZero, SeesASingleOtherByteAnywhere) {
  for (const size_t length : {1, 2, 15, 16, 17, 31, 64, 100}) {
    auto data = Filled(length, 0);
    EXPECT_TRUE(IsAllZero(data));
    for (size_t i = 0; i < length; ++i) {
      data[i] = std::byte{1};
      EXPECT_FALSE(IsAllZero(data)) << i << " of " << length;
      data[i] = std::byte{0};
    }
  }
}

}  // namespace
}  // namespace tidemark::graph
