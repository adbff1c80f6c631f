// What a copy counts as copied when its target lets it down, and what it tells when it goes on.
#include <memory>
#include <string>
#include <thread>

#include "engine/base/executor.h"
#include "engine/base/notification.h"
#include "engine/copy/copier.h"
#include "engine/copy/copier_world.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark::copy {
namespace {

// Long enough for any machine; only a test that fails waits so long.
constexpr absl::Duration kForever = absl::Seconds(60);

// ---- What is durable

TEST_F(CopierTest, AStoppedCopyIsFlushedBeforeItSaysWhatWasCopied) {
  MakeDisks(100);
  MakeCopy();
  ASSERT_TRUE(copy_->Step(1).ok());
  EXPECT_EQ(target_->flush_count, 0);
  copy_->Stop();
  copy_->Drain();
  EXPECT_EQ(target_->flush_count, 1);
  copy_->Finish();
  EXPECT_EQ(target_->flush_count, 1);
  EXPECT_EQ(copy_->not_copied().CountBytes(), 84 * kCluster);
}

TEST_F(CopierTest, WhatCannotBeFlushedAtTheEndIsNotCopied) {
  MakeDisks(100, /*tail_bytes=*/512);
  MakeCopy();
  GuestWrites(Clusters(90, 2), 2);
  ASSERT_TRUE(copy_->Step(1).ok());
  EXPECT_EQ(copy_->progress().current_bytes, 6 * kCluster);
  bad_target_->AddRule(
      {.status = absl::UnknownError("Input/output error"), .verb = Verb::kFlush, .fail_count = 1});
  copy_->Stop();
  copy_->Finish();
  EXPECT_EQ(copy_->not_copied().CountBytes(), 101 * kCluster);
}

TEST_F(CopierTest, AFailedLastFlushIsNotMadeGoodByAnotherThatSucceeds) {
  MakeDisks(5);
  MakeCopy();
  bad_target_->AddRule(
      {.status = absl::UnknownError("flush"), .verb = Verb::kFlush, .fail_count = 1});
  const absl::StatusOr<StepResult> result = Run();
  ASSERT_TRUE(result->io_error.has_value());
  copy_->Stop();
  copy_->Finish();
  EXPECT_EQ(copy_->not_copied().CountBytes(), 5 * kCluster);
}

TEST_F(CopierTest, WhatTheBitsNeverAskedForIsNotCountedWhenTheFlushFails) {
  MakeDisks(20);
  to_copy_->ClearAll();
  to_copy_->Set(Clusters(3, 4));
  MakeCopy();
  bad_target_->AddRule({.status = absl::UnknownError("flush"), .verb = Verb::kFlush});
  ASSERT_TRUE(Run()->io_error.has_value());
  copy_->Finish();
  EXPECT_EQ(copy_->not_copied().NextDirty(0, 20 * kCluster), Clusters(3, 4));
  EXPECT_EQ(copy_->not_copied().CountBytes(), 4 * kCluster);
}

TEST_F(CopierTest, ACopyThatWroteNothingFlushesNothing) {
  MakeDisks(5);
  MakeCopy();
  copy_->Finish();
  EXPECT_EQ(target_->flush_count, 0);
}

// ---- What is told after a pause

TEST_F(CopierTest, AGuestsErrorOfBeforeTheResumeIsTriedAgainAndNotTold) {
  MakeDisks(50);
  MakeCopy();
  bad_target_->AddRule(
      {.status = absl::ResourceExhaustedError("No space left on device"), .verb = Verb::kWrite});
  const absl::StatusOr<StepResult> result = copy_->Step(1);
  ASSERT_TRUE(result->io_error.has_value());
  // The job is paused; guests are not.
  GuestWrites(Clusters(40, 1), 2);
  bad_target_->ClearRules();
  copy_->OnResume();
  RunToEnd();
  EXPECT_EQ(target_memory_->Contents(), before_);
}

TEST_F(CopierTest, AnErrorThatCameWhileTheCopyWasDrainedIsTriedAgainAndNotTold) {
  MakeDisks(50);
  Notification may_begin;
  WorkerPool io_workers("io", 1);
  io_workers.Post([&may_begin] { may_begin.Wait(); });
  workers_.io = &io_workers;
  MakeCopy();
  EXPECT_TRUE(copy_->Step(kUnlimited).ok());
  bad_target_->AddRule({.status = absl::UnknownError("bad"), .verb = Verb::kWrite});
  bad_source_->AddRule({.status = absl::UnknownError("bad"), .verb = Verb::kRead});
  may_begin.Notify();
  copy_->Drain();
  bad_target_->ClearRules();
  bad_source_->ClearRules();
  copy_->OnResume();
  RunToEnd();
  EXPECT_EQ(target_memory_->Contents(), before_);
  copy_ = nullptr;
}

TEST_F(CopierTest, WhatFailsAgainAfterTheResumeIsToldAgain) {
  MakeDisks(50);
  MakeCopy();
  GuestWrites(Clusters(40, 1), 2);
  bad_target_->AddRule({.status = absl::UnknownError("bad"), .verb = Verb::kWrite});
  GuestWrites(Clusters(41, 1), 2);
  copy_->OnResume();
  const absl::StatusOr<StepResult> result = Run();
  ASSERT_TRUE(result.ok());
  EXPECT_TRUE(result->io_error.has_value());
}

// ---- Who waits for what

// Holds long reads, as those of the background are, and all zeroes, until it is let go.
class HeldStorage final : public storage::ForwardingStorage {
 public:
  using ForwardingStorage::ForwardingStorage;
  absl::Status Read(uint64_t offset_bytes, storage::Bytes buffer) override {
    if (buffer.size() > kCluster) Hold();
    return ForwardingStorage::Read(offset_bytes, buffer);
  }
  absl::Status WriteZeroes(Range range, storage::ZeroOptions options) override {
    Hold();
    return ForwardingStorage::WriteZeroes(range, options);
  }

  Notification held;
  Notification go;

 private:
  void Hold() {
    held.Notify();
    go.Wait();
  }
};

TEST_F(CopierTest, AGuestDoesNotWaitForWhatTheBackgroundReads) {
  MakeDisks(50);
  const auto held = std::make_shared<HeldStorage>(source_);
  copy_ = BlockCopy::Make(held, target_, std::move(to_copy_), options_, workers_, &clock_);
  std::thread stepper([this] { ASSERT_TRUE(copy_->Step(kUnlimited).ok()); });
  held->held.Wait();
  Notification wrote;
  std::thread guest([this, &wrote] {
    GuestWrites({5 * kCluster + 100, 1000}, 2);
    GuestWrites(Clusters(9, 1), 3);
    wrote.Notify();
  });
  EXPECT_TRUE(wrote.WaitFor(kForever));
  EXPECT_EQ(source_->read_bytes, 2 * kCluster);
  held->go.Notify();
  guest.join();
  stepper.join();
  RunToEnd();
  EXPECT_EQ(target_memory_->Contents(), before_);
  EXPECT_EQ(copy_->progress(), (Progress{50 * kCluster, 50 * kCluster}));
  EXPECT_EQ(target_->written_bytes, 50 * kCluster);
}

TEST_F(CopierTest, AGuestDoesNotWaitForZeroesOnTheirWayToTheTarget) {
  MakeDisks(200);
  ASSERT_TRUE(memory_->WriteZeroes(Clusters(3, 1), {}).ok());
  before_ = memory_->Contents();
  const auto held = std::make_shared<HeldStorage>(target_);
  WorkerPool io_workers("io", 4);
  workers_.io = &io_workers;
  copy_ = BlockCopy::Make(source_, held, std::move(to_copy_), options_, workers_, &clock_);
  std::thread stepper([this] { RunToEnd(); });
  held->held.Wait();
  Notification wrote;
  std::thread guest([this, &wrote] {
    // Clusters that are safe, that are in flight, and that nobody has begun with.
    for (uint64_t cluster = 0; cluster < 200; cluster += 7) GuestWrites(Clusters(cluster, 1), 2);
    wrote.Notify();
  });
  EXPECT_TRUE(wrote.WaitFor(kForever));
  held->go.Notify();
  guest.join();
  stepper.join();
  EXPECT_EQ(target_memory_->Contents(), before_);
}

}  // namespace
}  // namespace tidemark::copy
