// Speed limits, kept by the clock that the scheduler was given.
#include <algorithm>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/job/backup_job.h"
#include "engine/job/scheduler.h"
#include "engine/job/scheduler_world.h"
#include "engine/storage/completion_watch.h"
#include "engine/storage/failing_storage.h"
#include "engine/storage/memory_storage.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark::job {
namespace {

using storage::MemoryStorage;
using ::testing::HasSubstr;

constexpr uint64_t kKib = 1024;
constexpr uint64_t kMib = 1024 * kKib;

// Begins whole chunks, as fast as it is allowed to; the last one may be shorter.
class ChunkJob final : public Job {
 public:
  ChunkJob(uint64_t chunk_bytes, uint64_t size_bytes, uint64_t* moved_bytes)
      : chunk_bytes_(chunk_bytes), left_bytes_(size_bytes), moved_bytes_(moved_bytes) {}

  absl::StatusOr<StepResult> Step(uint64_t budget_bytes) override {
    StepResult result;
    while (result.moved_bytes < budget_bytes && left_bytes_ > 0) {
      const uint64_t begun_bytes = std::min(chunk_bytes_, left_bytes_);
      left_bytes_ -= begun_bytes;
      result.moved_bytes += begun_bytes;
    }
    *moved_bytes_ += result.moved_bytes;
    if (left_bytes_ == 0) result.next = StepResult::Next::kDone;
    return result;
  }
  Progress progress() const override { return {*moved_bytes_, *moved_bytes_ + left_bytes_}; }

 private:
  const uint64_t chunk_bytes_;
  uint64_t left_bytes_;
  uint64_t* const moved_bytes_;
};

class SpeedTest : public ::testing::Test, public SchedulerWorld {
 protected:
  void LaunchChunks(uint64_t chunk_bytes, int64_t speed, uint64_t size_bytes = uint64_t{1} << 50) {
    moved_bytes_ = 0;
    id_ = absl::StrCat("j", ++count_);
    ASSERT_TRUE(scheduler
                    .Create({.id = id_, .speed = speed},
                            std::make_unique<ChunkJob>(chunk_bytes, size_bytes, &moved_bytes_))
                    .ok());
    scheduler.Start(id_);
    Settle();
  }
  void End() {
    ASSERT_TRUE(scheduler.Cancel(VerbFamily::kJob, id_, true).ok());
    Settle();
  }

  // For as long as the promise is about: the longer of 4 seconds and 20 chunks.
  static absl::Duration Window(uint64_t chunk_bytes, double speed) {
    return std::max(absl::Seconds(4), absl::Seconds(20 * static_cast<double>(chunk_bytes) / speed));
  }
  void ExpectSpeed(uint64_t moved_bytes, absl::Duration time, double speed) {
    const double ratio = static_cast<double>(moved_bytes) / absl::ToDoubleSeconds(time) / speed;
    EXPECT_GE(ratio, 0.95) << speed << " bytes a second";
    EXPECT_LE(ratio, 1.05) << speed << " bytes a second";
  }

  std::string id_;
  int count_ = 0;
  uint64_t moved_bytes_ = 0;
};

TEST_F(SpeedTest, EveryLimitIsKeptWithinFivePercentAfterTheFirstChunk) {
  for (const uint64_t chunk_bytes : {64 * kKib, 256 * kKib, kMib, 2 * kMib, kMib + 65536}) {
    for (const int64_t speed :
         {int64_t{65536}, int64_t{65537}, int64_t{100'003}, int64_t{999'999}, int64_t{1'048'576},
          int64_t{1'500'000}, int64_t{5'500'000}, int64_t{10'485'759}, int64_t{10'485'761},
          int64_t{11'000'000}, int64_t{12'582'912}, int64_t{20'971'519}, int64_t{31'457'281},
          int64_t{123'456'789}, int64_t{1'000'000'007}, int64_t{1} << 32}) {
      SCOPED_TRACE(absl::StrCat("chunks of ", chunk_bytes));
      LaunchChunks(chunk_bytes, speed);
      EXPECT_GE(moved_bytes_, chunk_bytes);
      const absl::Duration window = Window(chunk_bytes, speed);
      Pass(window);
      ExpectSpeed(moved_bytes_ - chunk_bytes, window, speed);
      // And in any later window.
      const uint64_t before = moved_bytes_;
      Pass(window);
      ExpectSpeed(moved_bytes_ - before, window, speed);
      End();
    }
  }
}

TEST_F(SpeedTest, ChunksComeOneByOneAtTheLimit) {
  LaunchChunks(kMib, kMib);
  for (uint64_t chunk = 1; chunk <= 5; ++chunk) {
    EXPECT_EQ(moved_bytes_, chunk * kMib);
    Pass(absl::Milliseconds(999));
    EXPECT_EQ(moved_bytes_, chunk * kMib);
    Pass(absl::Milliseconds(1));
  }
}

TEST_F(SpeedTest, ASpeedThatIsSetOnTheWayHoldsFromThen) {
  for (const double from : {1e5, 5.5e6, 1e8}) {
    for (const double to : {7e4, 1.1e7, 3e9}) {
      SCOPED_TRACE(absl::StrCat("from ", from));
      LaunchChunks(kMib, static_cast<int64_t>(from));
      Pass(absl::Milliseconds(2345));
      ASSERT_TRUE(scheduler.SetSpeed(VerbFamily::kBlockJob, id_, static_cast<int64_t>(to)).ok());
      Settle();
      const uint64_t before = moved_bytes_;
      const absl::Duration window = Window(kMib, to);
      Pass(window);
      // What was owed already is paid at the new speed, too: a chunk at most.
      const uint64_t moved_bytes = moved_bytes_ - before;
      ExpectSpeed(moved_bytes + (moved_bytes < to * absl::ToDoubleSeconds(window) ? kMib / 2 : 0),
                  window, to);
      End();
    }
  }
}

TEST_F(SpeedTest, NoLimitWakesAJobThatIsHeldAtOnce) {
  LaunchChunks(kMib, 1, 20 * kMib + 12345);
  Pass(absl::Hours(1));
  EXPECT_EQ(moved_bytes_, kMib);
  ASSERT_TRUE(scheduler.SetSpeed(VerbFamily::kBlockJob, id_, 0).ok());
  Settle();
  EXPECT_EQ(moved_bytes_, 20 * kMib + 12345);
  EXPECT_THAT(diary.Take(), HasSubstr("COMPLETED, j1 concluded, j1 null"));
}

TEST_F(SpeedTest, SettingTheSameSpeedAgainAndAgainGivesNothingAway) {
  LaunchChunks(kMib, 5 * kMib);
  for (int i = 0; i < 400; ++i) {
    Pass(absl::Milliseconds(10));
    ASSERT_TRUE(scheduler.SetSpeed(VerbFamily::kJob, id_, 5 * kMib).ok());
  }
  ExpectSpeed(moved_bytes_ - kMib, absl::Seconds(4), 5 * kMib);
}

TEST_F(SpeedTest, APauseIsNotMadeUpFor) {
  LaunchChunks(kMib, 8 * kMib);
  Pass(absl::Seconds(4));
  ASSERT_TRUE(scheduler.Pause(VerbFamily::kJob, id_).ok());
  Pass(absl::Minutes(10));
  const uint64_t before = moved_bytes_;
  ASSERT_TRUE(scheduler.Resume(VerbFamily::kJob, id_).ok());
  Pass(absl::Seconds(4));
  ExpectSpeed(moved_bytes_ - before - kMib, absl::Seconds(4), 8 * kMib);
}

TEST_F(SpeedTest, WakingAJobThatIsHeldBeginsNothing) {
  scripts["j"].otherwise = {.next = StepResult::Next::kAgain, .moved_bytes = kMib};
  ASSERT_TRUE(Launch({.id = "j", .speed = 1}).ok());
  Settle();
  scripts["j"].otherwise.moved_bytes = 0;
  for (int i = 0; i < 5; ++i) {
    scripts["j"].waker();
    Settle();
  }
  EXPECT_THAT(scripts["j"].budgets, ::testing::ElementsAre(1, 0, 0, 0, 0, 0));
}

// Nobody may tell of it, so that its failure would be known when the bytes are paid for.
TEST_F(SpeedTest, WhatIsInFlightIsLookedAtHoweverSlowTheJobIs) {
  StepResult& step = scripts["j"].otherwise;
  step = {.next = StepResult::Next::kAgain,
          .delay = absl::Milliseconds(2),
          .in_flight = true,
          .moved_bytes = kMib};
  ASSERT_TRUE(Launch({.id = "j", .speed = 1}).ok());
  Settle();
  step.moved_bytes = 0;
  Pass(absl::Milliseconds(5));
  EXPECT_THAT(scripts["j"].budgets, ::testing::ElementsAre(1, 0, 0));
  step.in_flight = false;
  Pass(absl::Seconds(5));
  EXPECT_THAT(scripts["j"].budgets, ::testing::ElementsAre(1, 0, 0, 0)) << "that was all";
}

// ---- Backups

class BackupSpeedTest : public SpeedTest {
 protected:
  void LaunchBackup(uint64_t size_bytes, uint64_t cluster_bytes, int64_t speed) {
    target_ = std::make_shared<MemoryStorage>(size_bytes);
    BackupParts parts;
    parts.source = MemoryStorage::Of(std::string(size_bytes, 'x'));
    parts.target = target_;
    parts.clock = &clock;
    BackupOptions options{.job_id = "b"};
    options.min_cluster_bytes = cluster_bytes;
    absl::StatusOr<std::unique_ptr<BackupJob>> job = BackupJob::Make(options, std::move(parts), {});
    ASSERT_TRUE(job.ok()) << job.status();
    copy_ = (*job)->copy();
    ASSERT_TRUE(scheduler.Create({.id = "b", .speed = speed}, *std::move(job)).ok());
    scheduler.Start("b");
    Settle();
  }
  uint64_t CopiedBytes() { return copy_->progress().current_bytes; }

  std::shared_ptr<MemoryStorage> target_;
  std::shared_ptr<copy::BlockCopy> copy_;
};

TEST_F(BackupSpeedTest, ABackupOfLargeClustersKeepsItsSpeed) {
  const int64_t speed = 5'500'000;
  LaunchBackup(64 * kMib, 2 * kMib, speed);
  EXPECT_EQ(CopiedBytes(), 2 * kMib);
  const absl::Duration window = Window(2 * kMib, speed);
  Pass(window);
  ExpectSpeed(CopiedBytes() - 2 * kMib, window, speed);
}

TEST_F(BackupSpeedTest, ATailThatIsNoWholeClusterIsPaidForAsItIs) {
  const int64_t speed = 1'500'000;
  const uint64_t size_bytes = 7 * kMib + 512;
  LaunchBackup(size_bytes, 0, speed);
  const absl::Duration before_tail = absl::Seconds(7.0 * kMib / speed);
  Pass(before_tail - absl::Milliseconds(1));
  EXPECT_EQ(CopiedBytes(), 7 * kMib);
  Pass(absl::Milliseconds(2));
  EXPECT_EQ(CopiedBytes(), size_bytes);
  EXPECT_THAT(diary.Take(), HasSubstr("COMPLETED"));
}

TEST_F(BackupSpeedTest, WhatGuestsSaveIsNotPaidForByTheBackground) {
  const int64_t speed = 4 * kMib;
  LaunchBackup(128 * kMib, 0, speed);
  uint64_t guest_bytes = 0;
  for (int i = 0; i < 50; ++i) {
    // Far ahead of the background.
    ASSERT_TRUE(copy_->Capture({64 * kMib + i * kMib, kMib}).ok());
    guest_bytes += kMib;
    Pass(absl::Milliseconds(100));
  }
  ExpectSpeed(CopiedBytes() - guest_bytes - kMib, absl::Seconds(5), speed);
}

// A disk as large as one likes: full of data that nobody looks at.
class EndlessStorage final : public storage::ForwardingStorage {
 public:
  explicit EndlessStorage(uint64_t size_bytes)
      : ForwardingStorage(std::make_shared<MemoryStorage>(size_bytes)) {}
  absl::Status Read(uint64_t, storage::Bytes) override { return absl::OkStatus(); }
  absl::Status Write(uint64_t, storage::ConstBytes, storage::WriteOptions) override {
    return absl::OkStatus();
  }
  absl::StatusOr<storage::Extent> Map(Range range) override { return storage::Extent{range}; }
};

// As in production: no step waits; others make the calls, and what ends is told. (All of them on
// the test's thread. Nothing is on the watch: disks without files have calls only.)
class LaneSpeedTest : public BackupSpeedTest {
 protected:
  void LaunchLane(uint64_t size_bytes, int64_t speed) {
    BackupParts parts;
    parts.source = std::make_shared<EndlessStorage>(size_bytes);
    parts.target = std::make_shared<EndlessStorage>(size_bytes);
    parts.workers = {.guest = &workers,
                     .io = &workers,
                     .source_io = &workers,
                     .watch = std::make_shared<storage::CompletionWatch>()};
    parts.clock = &clock;
    id_ = absl::StrCat("b", ++count_);
    absl::StatusOr<std::unique_ptr<BackupJob>> job =
        BackupJob::Make({.job_id = id_}, std::move(parts), {});
    ASSERT_TRUE(job.ok()) << job.status();
    copy_ = (*job)->copy();
    ASSERT_TRUE(scheduler.Create({.id = id_, .speed = speed}, *std::move(job)).ok());
    scheduler.Start(id_);
    Settle();
  }
};

TEST_F(LaneSpeedTest, ABackupThatNeverWaitsKeepsEveryLimitWithinFivePercent) {
  for (const int64_t speed :
       {int64_t{65536}, int64_t{5'500'000}, int64_t{123'456'789}, int64_t{1} << 32}) {
    const absl::Duration window = Window(kMib, speed);
    const auto window_bytes = static_cast<uint64_t>(absl::ToDoubleSeconds(window) * speed);
    LaunchLane(3 * window_bytes / kMib * kMib + 16 * kMib, speed);
    EXPECT_GE(CopiedBytes(), kMib);
    Pass(window);
    ExpectSpeed(CopiedBytes() - kMib, window, speed);
    // And in any later window.
    const uint64_t before = CopiedBytes();
    Pass(window);
    ExpectSpeed(CopiedBytes() - before, window, speed);
    End();
  }
}

// The guests' old data has a failing target, and the background is held by its speed for days.
TEST_F(BackupSpeedTest, ATargetThatFailsUnderGuestWritesIsToldAtOnceAndBeforeTheJobIsGivenUp) {
  auto target =
      std::make_shared<storage::FailingStorage>(std::make_shared<MemoryStorage>(64 * kMib));
  BackupParts parts;
  parts.source = MemoryStorage::Of(std::string(64 * kMib, 'x'));
  parts.target = target;
  parts.clock = &clock;
  absl::StatusOr<std::unique_ptr<BackupJob>> job =
      BackupJob::Make({.job_id = "b"}, std::move(parts), {});
  ASSERT_TRUE(job.ok()) << job.status();
  copy_ = (*job)->copy();
  JobOptions options{.id = "b", .speed = 1};
  options.on_target_error = ErrorPolicy::kStop;
  ASSERT_TRUE(scheduler.Create(options, *std::move(job)).ok());
  scheduler.Start("b");
  Pass(absl::Hours(1));
  diary.Take();
  target->AddRule({.status = absl::UnknownError("bad"), .verb = storage::Verb::kWrite});
  ASSERT_TRUE(copy_->Capture({32 * kMib, kMib}).ok());
  Settle();
  EXPECT_EQ(diary.Take(), "b ERROR write stop, b paused");
  EXPECT_EQ(scheduler.Find("b")->io_status, IoStatus::kFailed);
  EXPECT_TRUE(copy_->lost().ok());
}

}  // namespace
}  // namespace tidemark::job
