// The copier on one thread: what is copied, what is not, what errors leave behind, and what guests
// are promised. copier_stress_test.cc has the many threads.
#include "engine/job/copier.h"

#include <atomic>
#include <memory>
#include <string>

#include "engine/base/clock.h"
#include "engine/base/executor.h"
#include "engine/job/limits.h"
#include "engine/job/manual_executor.h"
#include "engine/storage/failing_storage.h"
#include "engine/storage/memory_storage.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark::job {
namespace {

using storage::FailingStorage;
using storage::MemoryStorage;
using storage::Verb;

constexpr uint64_t kCluster = 64 * 1024;
constexpr uint64_t kUnlimited = ~uint64_t{0};

Range Clusters(uint64_t first, uint64_t count) { return {first * kCluster, count * kCluster}; }

std::string Pattern(size_t length, int seed) {
  std::string text(length, '\0');
  uint32_t value = seed * 2654435761u + 1;
  for (char& c : text) {
    value = value * 1664525 + 1013904223;
    c = static_cast<char>(value >> 24 | 1);
  }
  return text;
}

storage::ConstBytes AsBytes(const std::string& text) {
  return storage::ConstBytes(reinterpret_cast<const std::byte*>(text.data()), text.size());
}

// Counts what is asked of a disk.
class CountingStorage final : public storage::ForwardingStorage {
 public:
  using ForwardingStorage::ForwardingStorage;
  absl::Status Read(uint64_t offset_bytes, storage::Bytes buffer) override {
    read_bytes += buffer.size();
    return ForwardingStorage::Read(offset_bytes, buffer);
  }
  absl::Status Write(uint64_t offset_bytes, storage::ConstBytes data,
                     storage::WriteOptions options) override {
    written_bytes += data.size();
    if (options.compressed) compressed_bytes += data.size();
    return ForwardingStorage::Write(offset_bytes, data, options);
  }
  absl::Status WriteZeroes(Range range, storage::ZeroOptions options) override {
    zeroed_bytes += range.length_bytes;
    return ForwardingStorage::WriteZeroes(range, options);
  }
  absl::Status Flush() override {
    ++flush_count;
    return ForwardingStorage::Flush();
  }
  std::atomic<uint64_t> read_bytes = 0;
  std::atomic<uint64_t> written_bytes = 0;
  std::atomic<uint64_t> compressed_bytes = 0;
  std::atomic<uint64_t> zeroed_bytes = 0;
  std::atomic<int> flush_count = 0;
};

class CopierTest : public ::testing::Test {
 protected:
  // A disk of so many clusters of data.
  void MakeDisks(uint64_t cluster_count, uint64_t tail_bytes = 0) {
    const uint64_t size = cluster_count * kCluster + tail_bytes;
    before_ = Pattern(size, 1);
    memory_ = MemoryStorage::Of(before_);
    target_memory_ = std::make_shared<MemoryStorage>(size);
    bad_source_ = std::make_shared<FailingStorage>(memory_);
    bad_target_ = std::make_shared<FailingStorage>(target_memory_);
    source_ = std::make_shared<CountingStorage>(bad_source_);
    target_ = std::make_shared<CountingStorage>(bad_target_);
    to_copy_ = std::make_unique<bitmap::DirtyBitmap>(size, kCluster);
    to_copy_->SetAll();
  }

  void MakeCopy() {
    copy_ = BlockCopy::Make(source_, target_, std::move(to_copy_), options_, workers_, &clock_);
    copy_->set_waker([this] { ++wake_count_; });
  }

  // As a guest behind a copy-before-write filter.
  void GuestWrites(Range range, int seed) {
    ASSERT_TRUE(copy_->Capture(range).ok());
    const std::string data = Pattern(range.length_bytes, seed);
    ASSERT_TRUE(memory_->Write(range.offset_bytes, AsBytes(data), {}).ok());
  }

  // Steps until the copy is done or in trouble.
  absl::StatusOr<StepResult> Run() {
    for (int i = 0; i < 100000; ++i) {
      absl::StatusOr<StepResult> result = copy_->Step(kUnlimited);
      if (!result.ok() || result->io_error.has_value() ||
          result->next != StepResult::Next::kAgain) {
        return result;
      }
    }
    return absl::InternalError("the copy goes on for ever");
  }
  void RunToEnd() {
    const absl::StatusOr<StepResult> result = Run();
    ASSERT_TRUE(result.ok()) << result.status();
    ASSERT_FALSE(result->io_error.has_value()) << result->io_error->status;
    ASSERT_EQ(result->next, StepResult::Next::kDone);
  }

  std::string before_;
  std::shared_ptr<MemoryStorage> memory_;
  std::shared_ptr<MemoryStorage> target_memory_;
  std::shared_ptr<FailingStorage> bad_source_;
  std::shared_ptr<FailingStorage> bad_target_;
  std::shared_ptr<CountingStorage> source_;
  std::shared_ptr<CountingStorage> target_;
  std::unique_ptr<bitmap::DirtyBitmap> to_copy_;
  CopyOptions options_;
  CopyWorkers workers_;
  ManualClock clock_;
  std::shared_ptr<BlockCopy> copy_;
  std::atomic<int> wake_count_ = 0;
};

// ---- What is copied

TEST_F(CopierTest, CopiesTheWholeDiskAndFlushesItOnce) {
  MakeDisks(100);
  MakeCopy();
  EXPECT_EQ(copy_->progress(), (Progress{0, 100 * kCluster}));
  RunToEnd();
  EXPECT_EQ(target_memory_->Contents(), before_);
  EXPECT_EQ(copy_->progress(), (Progress{100 * kCluster, 100 * kCluster}));
  EXPECT_EQ(target_->flush_count, 1);
  EXPECT_EQ(source_->read_bytes, before_.size());
  EXPECT_TRUE(copy_->not_copied().IsEmpty());
}

TEST_F(CopierTest, APartialLastClusterIsCopiedAndCountedAsItIs) {
  MakeDisks(3, 512);
  MakeCopy();
  EXPECT_EQ(copy_->progress().total_bytes, 3 * kCluster + 512);
  RunToEnd();
  EXPECT_EQ(target_memory_->Contents(), before_);
  EXPECT_EQ(copy_->progress().current_bytes, 3 * kCluster + 512);
}

TEST_F(CopierTest, ADiskSmallerThanAClusterIsCopied) {
  MakeDisks(0, 512);
  MakeCopy();
  RunToEnd();
  EXPECT_EQ(target_memory_->Contents(), before_);
}

TEST_F(CopierTest, NothingToCopyIsDoneWithNoWork) {
  MakeDisks(10);
  to_copy_->ClearAll();
  MakeCopy();
  RunToEnd();
  EXPECT_EQ(copy_->progress(), (Progress{0, 0}));
  EXPECT_EQ(target_->written_bytes, 0u);
}

TEST_F(CopierTest, OnlyDirtyClustersAreCopied) {
  MakeDisks(10);
  to_copy_->ClearAll();
  to_copy_->Set(Clusters(3, 2));
  to_copy_->Set(Clusters(9, 1));
  MakeCopy();
  EXPECT_EQ(copy_->progress().total_bytes, 3 * kCluster);
  RunToEnd();
  EXPECT_EQ(target_->written_bytes, 3 * kCluster);
  std::string expected(before_.size(), '\0');
  expected.replace(3 * kCluster, 2 * kCluster, before_, 3 * kCluster, 2 * kCluster);
  expected.replace(9 * kCluster, kCluster, before_, 9 * kCluster, kCluster);
  EXPECT_EQ(target_memory_->Contents(), expected);
}

TEST_F(CopierTest, ZeroesAreNeitherReadNorWrittenAsData) {
  MakeDisks(10);
  ASSERT_TRUE(memory_->WriteZeroes(Clusters(2, 5), {}).ok());
  before_ = memory_->Contents();
  ASSERT_TRUE(target_memory_->Write(0, AsBytes(Pattern(10 * kCluster, 9)), {}).ok());
  MakeCopy();
  RunToEnd();
  EXPECT_EQ(target_memory_->Contents(), before_);
  EXPECT_EQ(source_->read_bytes, 5 * kCluster);
  EXPECT_EQ(target_->written_bytes, 5 * kCluster);
  EXPECT_EQ(target_->zeroed_bytes, 5 * kCluster);
}

TEST_F(CopierTest, AZeroTargetIsNotZeroedAgain) {
  MakeDisks(10);
  ASSERT_TRUE(memory_->WriteZeroes(Clusters(2, 5), {}).ok());
  before_ = memory_->Contents();
  options_.target_is_zero = true;
  MakeCopy();
  RunToEnd();
  EXPECT_EQ(target_memory_->Contents(), before_);
  EXPECT_EQ(target_->zeroed_bytes, 0u);
  EXPECT_EQ(copy_->progress(), (Progress{10 * kCluster, 10 * kCluster}));
}

TEST_F(CopierTest, ZeroesInDataAreFoundIfAskedFor) {
  MakeDisks(4);
  const std::string zeroes(2 * kCluster, '\0');
  // Written as data where they are, among other data.
  ASSERT_TRUE(memory_->Write(kCluster + 1, AsBytes(Pattern(1, 3)), {}).ok());
  before_ = Pattern(kCluster, 4) + zeroes + Pattern(kCluster, 5);
  memory_ = MemoryStorage::Of(before_);
  // A disk that does not know of its zeroes.
  class Opaque final : public storage::ForwardingStorage {
   public:
    using ForwardingStorage::ForwardingStorage;
    absl::StatusOr<storage::Extent> Map(Range range) override {
      return storage::Extent{.range = range};
    }
  };
  source_ = std::make_shared<CountingStorage>(std::make_shared<Opaque>(memory_));
  options_.detect_zeroes = true;
  MakeCopy();
  RunToEnd();
  EXPECT_EQ(target_memory_->Contents(), before_);
  EXPECT_EQ(target_->written_bytes, 2 * kCluster);
  EXPECT_EQ(target_->zeroed_bytes, 2 * kCluster);
}

TEST_F(CopierTest, CompressionIsAskedForEveryCluster) {
  MakeDisks(10);
  options_.compress = true;
  MakeCopy();
  GuestWrites(Clusters(3, 1), 7);
  RunToEnd();
  EXPECT_EQ(target_memory_->Contents(), before_);
  EXPECT_EQ(target_->compressed_bytes, 10 * kCluster);
}

TEST_F(CopierTest, OnlyTheTopLayerIsCopiedIfAskedFor) {
  MakeDisks(600);
  // The even tens of clusters belong to the top.
  class Layered final : public storage::ForwardingStorage {
   public:
    using ForwardingStorage::ForwardingStorage;
    absl::StatusOr<storage::Extent> Map(Range range) override {
      const uint64_t ten = range.offset_bytes / (10 * kCluster);
      const Range whole = Clusters(ten * 10, 10);
      return storage::Extent{.range = range.Intersect(whole), .depth = ten % 2 == 0 ? 1 : 2};
    }
  };
  source_ = std::make_shared<CountingStorage>(std::make_shared<Layered>(memory_));
  options_.only_top_layer = true;
  MakeCopy();
  // A guest writes to the top before the walk has been there, and to what lies below.
  GuestWrites(Clusters(25, 1), 8);
  GuestWrites(Clusters(35, 1), 8);
  RunToEnd();
  std::string expected = before_;
  for (uint64_t ten = 1; ten < 60; ten += 2) {
    expected.replace(ten * 10 * kCluster, 10 * kCluster, 10 * kCluster, '\0');
  }
  EXPECT_EQ(target_memory_->Contents(), expected);
  EXPECT_EQ(copy_->progress(), (Progress{300 * kCluster, 300 * kCluster}));
}

TEST_F(CopierTest, TheCopyUnitIsTheTargetsClusterButAtLeast64KiB) {
  EXPECT_EQ(CopyClusterBytes({.cluster_size_bytes = 0}), 64u << 10);
  EXPECT_EQ(CopyClusterBytes({.cluster_size_bytes = 512}), 64u << 10);
  EXPECT_EQ(CopyClusterBytes({.cluster_size_bytes = 1 << 20}), 1u << 20);
}

TEST_F(CopierTest, ABudgetBeginsOneChunkAtLeastAndLeavesNothingInFlight) {
  MakeDisks(100);
  MakeCopy();
  const absl::StatusOr<StepResult> result = copy_->Step(1);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->moved_bytes, 1u << 20);
  EXPECT_EQ(copy_->progress().current_bytes, 1u << 20);
}

// ---- The guest path

TEST_F(CopierTest, WhatAGuestOverwritesIsCopiedAsItWas) {
  MakeDisks(20);
  MakeCopy();
  GuestWrites({5 * kCluster + 1000, 3000}, 2);
  GuestWrites({10 * kCluster - 1, 2}, 3);
  GuestWrites(Clusters(15, 5), 4);
  RunToEnd();
  EXPECT_EQ(target_memory_->Contents(), before_);
}

TEST_F(CopierTest, TwoGuestWritesToAClusterCostOneCopy) {
  MakeDisks(20);
  MakeCopy();
  GuestWrites({5 * kCluster, 512}, 2);
  const uint64_t read_bytes = source_->read_bytes;
  EXPECT_EQ(read_bytes, kCluster);
  GuestWrites({5 * kCluster + 512, 512}, 3);
  EXPECT_EQ(source_->read_bytes, read_bytes);
  RunToEnd();
  EXPECT_EQ(target_memory_->Contents(), before_);
  EXPECT_EQ(target_->written_bytes, 20 * kCluster);
}

TEST_F(CopierTest, AGuestWriteToZeroesNeedsNoRead) {
  MakeDisks(20);
  ASSERT_TRUE(memory_->WriteZeroes(Clusters(4, 2), {}).ok());
  before_ = memory_->Contents();
  ASSERT_TRUE(target_memory_->Write(0, AsBytes(Pattern(20 * kCluster, 9)), {}).ok());
  MakeCopy();
  GuestWrites(Clusters(4, 2), 2);
  EXPECT_EQ(source_->read_bytes, 0u);
  RunToEnd();
  EXPECT_EQ(target_memory_->Contents(), before_);
}

TEST_F(CopierTest, WhatIsNotToBeCopiedIsNotCaptured) {
  MakeDisks(20);
  to_copy_->ClearAll();
  MakeCopy();
  GuestWrites(Clusters(4, 2), 2);
  EXPECT_EQ(source_->read_bytes, 0u);
}

TEST_F(CopierTest, AGuestGoesOnWhileTheTargetIsStillWriting) {
  MakeDisks(20);
  ManualExecutor guest_workers(&clock_);
  workers_.guest = &guest_workers;
  MakeCopy();
  GuestWrites(Clusters(4, 2), 2);  // Returns, though nobody writes anything out.
  EXPECT_EQ(target_->written_bytes, 0u);
  EXPECT_EQ(copy_->progress().current_bytes, 0u);
  while (guest_workers.RunOne()) {
  }
  EXPECT_EQ(target_->written_bytes, 2 * kCluster);
  EXPECT_EQ(copy_->progress().current_bytes, 2 * kCluster);
  RunToEnd();
  EXPECT_EQ(target_memory_->Contents(), before_);
}

TEST_F(CopierTest, AWriteThroughCopyHasTheOldDataInTheTargetBeforeTheGuestGoesOn) {
  MakeDisks(20);
  WorkerPool guest_workers("guest", 1);
  workers_.guest = &guest_workers;
  options_.write_through = true;
  options_.only_guest_writes = true;
  MakeCopy();
  for (uint64_t cluster = 0; cluster < 20; cluster += 2) {
    ASSERT_TRUE(copy_->Capture(Clusters(cluster, 1)).ok());
    EXPECT_EQ(target_memory_->Contents(Clusters(cluster, 1)),
              before_.substr(cluster * kCluster, kCluster));
  }
  copy_->Finish();
}

TEST_F(CopierTest, GuestWritesOnlyCopiesNothingElseAndNeverEnds) {
  MakeDisks(20);
  options_.only_guest_writes = true;
  MakeCopy();
  absl::StatusOr<StepResult> result = Run();
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->next, StepResult::Next::kWait);
  EXPECT_EQ(result->delay, absl::InfiniteDuration());
  EXPECT_EQ(copy_->progress().current_bytes, 0u);
  GuestWrites(Clusters(7, 1), 2);
  EXPECT_EQ(wake_count_, 1);
  result = Run();
  EXPECT_EQ(result->next, StepResult::Next::kWait);
  EXPECT_EQ(copy_->progress().current_bytes, kCluster);
  EXPECT_EQ(target_memory_->Contents(Clusters(7, 1)), before_.substr(7 * kCluster, kCluster));
}

TEST_F(CopierTest, ATargetThatStandsStillLosesTheCopyNotTheGuest) {
  // More than the buffer holds, and nobody writes it out.
  MakeDisks(kCaptureBytesMax / kCluster + 10);
  ManualExecutor nobody(&clock_);
  workers_.guest = &nobody;
  class PassingClock final : public Clock {
   public:
    absl::Time Now() override { return absl::UnixEpoch(); }
    absl::Duration Elapsed() override { return absl::Milliseconds(200 * ++looks_); }

   private:
    std::atomic<int> looks_ = 0;
  };
  PassingClock clock;
  copy_ = BlockCopy::Make(source_, target_, std::move(to_copy_), options_, workers_, &clock);
  copy_->set_waker([this] { ++wake_count_; });
  EXPECT_TRUE(copy_->Capture({0, before_.size()}).ok());
  EXPECT_THAT(std::string(copy_->lost().message()), ::testing::HasSubstr("took no data"));
  EXPECT_EQ(wake_count_, 1);
  EXPECT_FALSE(copy_->Step(kUnlimited).ok());
  // From now on nobody is held up.
  EXPECT_TRUE(copy_->Capture({0, before_.size()}).ok());
  while (nobody.RunOne()) {
  }
  copy_->Finish();
  EXPECT_EQ(copy_->not_copied().CountBytes(), before_.size());
}

TEST_F(CopierTest, OldDataThatCannotBeReadLosesTheCopyNotTheGuest) {
  MakeDisks(20);
  MakeCopy();
  bad_source_->AddRule({.status = absl::UnknownError("Input/output error"), .verb = Verb::kRead});
  EXPECT_TRUE(copy_->Capture(Clusters(3, 1)).ok());
  EXPECT_EQ(copy_->lost().message(), "Input/output error");
  EXPECT_EQ(wake_count_, 1);
  EXPECT_EQ(copy_->Step(kUnlimited).status().message(), "Input/output error");
}

TEST_F(CopierTest, StopLetsGuestsThroughAndCountsWhatWasSavedAsNotCopied) {
  MakeDisks(20);
  ManualExecutor guest_workers(&clock_);
  workers_.guest = &guest_workers;
  MakeCopy();
  GuestWrites(Clusters(4, 2), 2);
  copy_->Stop();
  const uint64_t read_bytes = source_->read_bytes;
  GuestWrites(Clusters(9, 1), 3);
  EXPECT_EQ(source_->read_bytes, read_bytes);
  while (guest_workers.RunOne()) {
  }
  copy_->Finish();
  EXPECT_EQ(copy_->not_copied().CountBytes(), 20 * kCluster);
}

TEST_F(CopierTest, AStoppedCopyIsSteppedNoFurther) {
  MakeDisks(100);
  MakeCopy();
  ASSERT_TRUE(copy_->Step(1).ok());
  copy_->Stop();
  EXPECT_FALSE(copy_->Step(kUnlimited).ok());
  copy_->Finish();
  EXPECT_EQ(copy_->not_copied().CountBytes(), 84 * kCluster);
}

// ---- Errors

TEST_F(CopierTest, AReadErrorIsToldAndTheNextStepTriesAgain) {
  MakeDisks(50);
  MakeCopy();
  bad_source_->AddRule({.status = absl::UnknownError("bad sector"),
                        .verb = Verb::kRead,
                        .range = Clusters(20, 1),
                        .fail_count = 1});
  absl::StatusOr<StepResult> result = Run();
  ASSERT_TRUE(result.ok());
  ASSERT_TRUE(result->io_error.has_value());
  EXPECT_TRUE(result->io_error->is_read);
  EXPECT_EQ(result->io_error->status.message(), "bad sector");
  EXPECT_TRUE(copy_->not_copied().IsDirty(20 * kCluster));
  RunToEnd();
  EXPECT_EQ(target_memory_->Contents(), before_);
}

TEST_F(CopierTest, AWriteErrorIsToldAndWhatWasReadIsWrittenLaterThoughTheSourceHasChanged) {
  MakeDisks(50);
  MakeCopy();
  bad_target_->AddRule({.status = absl::ResourceExhaustedError("No space left on device"),
                        .verb = Verb::kWrite,
                        .range = Clusters(20, 1),
                        .fail_count = 2});
  absl::StatusOr<StepResult> result = Run();
  ASSERT_TRUE(result->io_error.has_value());
  EXPECT_FALSE(result->io_error->is_read);
  GuestWrites(Clusters(20, 1), 2);
  result = Run();
  ASSERT_TRUE(result->io_error.has_value());
  RunToEnd();
  EXPECT_EQ(target_memory_->Contents(), before_);
}

TEST_F(CopierTest, AMapErrorIsAReadError) {
  MakeDisks(5);
  MakeCopy();
  bad_source_->AddRule(
      {.status = absl::DataLossError("broken table"), .verb = Verb::kMap, .fail_count = 1});
  const absl::StatusOr<StepResult> result = Run();
  ASSERT_TRUE(result->io_error.has_value());
  EXPECT_TRUE(result->io_error->is_read);
  RunToEnd();
  EXPECT_EQ(target_memory_->Contents(), before_);
}

TEST_F(CopierTest, AFlushErrorIsAWriteErrorAndIsTriedAgain) {
  MakeDisks(5);
  MakeCopy();
  bad_target_->AddRule(
      {.status = absl::UnknownError("flush"), .verb = Verb::kFlush, .fail_count = 1});
  const absl::StatusOr<StepResult> result = Run();
  ASSERT_TRUE(result->io_error.has_value());
  EXPECT_FALSE(result->io_error->is_read);
  RunToEnd();
}

TEST_F(CopierTest, ACapturedClusterThatCannotBeWrittenIsKeptAndToldAsAWriteError) {
  MakeDisks(20);
  MakeCopy();
  bad_target_->AddRule(
      {.status = absl::UnknownError("bad target"), .verb = Verb::kWrite, .fail_count = 1});
  GuestWrites(Clusters(4, 1), 2);
  EXPECT_GE(wake_count_, 1);
  absl::StatusOr<StepResult> result = copy_->Step(kUnlimited);
  ASSERT_TRUE(result.ok());
  ASSERT_TRUE(result->io_error.has_value());
  EXPECT_FALSE(result->io_error->is_read);
  EXPECT_EQ(result->io_error->status.message(), "bad target");
  RunToEnd();
  EXPECT_EQ(target_memory_->Contents(), before_);
}

TEST_F(CopierTest, APermanentErrorIsToldByEveryStepAndFinishLeavesTheTruth) {
  MakeDisks(50);
  MakeCopy();
  bad_target_->AddRule({.status = absl::UnknownError("broken"), .range = Clusters(30, 1)});
  for (int i = 0; i < 10; ++i) {
    const absl::StatusOr<StepResult> result = Run();
    ASSERT_TRUE(result.ok());
    ASSERT_TRUE(result->io_error.has_value());
  }
  copy_->Finish();
  EXPECT_TRUE(copy_->not_copied().IsDirty(30 * kCluster));
  // All that is said to be copied is in the target.
  for (uint64_t cluster = 0; cluster < 50; ++cluster) {
    if (copy_->not_copied().IsDirty(cluster * kCluster)) continue;
    EXPECT_EQ(target_memory_->Contents(Clusters(cluster, 1)),
              before_.substr(cluster * kCluster, kCluster));
  }
}

TEST_F(CopierTest, AnErrorInTheWalkOfTheTopLayerIsAReadErrorAndIsTriedAgain) {
  MakeDisks(20);
  options_.only_top_layer = true;
  MakeCopy();
  bad_source_->AddRule(
      {.status = absl::UnknownError("broken"), .verb = Verb::kMap, .fail_count = 1});
  const absl::StatusOr<StepResult> result = Run();
  ASSERT_TRUE(result->io_error.has_value());
  EXPECT_TRUE(result->io_error->is_read);
  RunToEnd();
  EXPECT_EQ(target_memory_->Contents(), before_);
}

}  // namespace
}  // namespace tidemark::job
