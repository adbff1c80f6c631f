// What guests are promised, and what errors leave behind.
#include <memory>
#include <string>

#include "engine/base/manual_executor.h"
#include "engine/copy/copier.h"
#include "engine/copy/copier_world.h"
#include "engine/copy/limits.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark::copy {
namespace {

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

TEST_F(CopierTest, WhatCopiesHoldTogetherIsOfOneBudgetAndEachGoesOnWithoutIt) {
  // More than may be captured without the budget, and nobody writes it out.
  constexpr uint64_t kOverClusters = 32;
  constexpr uint64_t kFreeClusters = kCaptureBytesUnbudgeted / kCluster;
  MakeDisks(kFreeClusters + 2 * kOverClusters);
  Budget memory(kOverClusters * kCluster);
  workers_.memory = &memory;
  ManualExecutor nobody(&clock_);
  workers_.guest = &nobody;
  MakeCopy();
  for (uint64_t at = 0; at < kFreeClusters; ++at) GuestWrites(Clusters(at, 1), 2);
  EXPECT_EQ(memory.taken(), 0u);
  for (uint64_t at = 0; at < kOverClusters; ++at) GuestWrites(Clusters(kFreeClusters + at, 1), 2);
  EXPECT_EQ(memory.taken(), memory.limit());
  // With nothing left of the budget the background has one buffer, which is enough.
  while (nobody.RunOne()) {
  }
  EXPECT_EQ(memory.taken(), 0u);
  const Budget::Loan others = memory.TryTake(memory.limit());
  ASSERT_TRUE(others);
  RunToEnd();
  EXPECT_EQ(target_memory_->Contents(), before_);
  copy_ = nullptr;  // The budget outlives it.
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
}  // namespace tidemark::copy
