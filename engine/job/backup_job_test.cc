// Backups, run by the scheduler, on one thread.
#include "engine/job/backup_job.h"

#include <memory>
#include <string>

#include "engine/base/error.h"
#include "engine/bitmap/limits.h"
#include "engine/job/create_job.h"
#include "engine/job/scheduler_world.h"
#include "engine/storage/failing_storage.h"
#include "engine/storage/memory_storage.h"
#include "engine/storage/null_storage.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark::job {
namespace {

using storage::FailingStorage;
using storage::MemoryStorage;
using storage::Verb;

constexpr uint64_t kCluster = 64 * 1024;
constexpr uint64_t kSize = 64 * kCluster;

storage::ConstBytes AsBytes(const std::string& text) {
  return storage::ConstBytes(reinterpret_cast<const std::byte*>(text.data()), text.size());
}

class BackupJobTest : public ::testing::Test, public SchedulerWorld {
 protected:
  BackupJobTest() : before_(kSize, '\0'), bits_(kSize, 512) {
    for (size_t i = 0; i < before_.size(); ++i) before_[i] = static_cast<char>(i / 512 % 251 + 1);
    EXPECT_TRUE(source_->Write(0, AsBytes(before_)).ok());
  }

  absl::Status Backup(BackupOptions backup, JobOptions job) {
    backup.job_id = job.id;
    BackupParts parts;
    parts.source = source_;
    parts.target = bad_target_;
    parts.source_node = "disk0";
    parts.target_node = "copy0";
    parts.bits = &bits_;
    parts.target_shows_source = fleecing_;
    parts.clock = &clock;
    CopyHooks hooks;
    hooks.prepare = [this] {
      hooks_called_.push_back("prepare");
      return absl::OkStatus();
    };
    hooks.commit = [this](const bitmap::DirtyBitmap& not_copied) {
      hooks_called_.push_back("commit");
      not_copied_bytes_ = not_copied.CountBytes();
    };
    hooks.abort = [this](const bitmap::DirtyBitmap& not_copied) {
      hooks_called_.push_back("abort");
      not_copied_bytes_ = not_copied.CountBytes();
    };
    hooks.clean = [this] { hooks_called_.push_back("clean"); };
    absl::StatusOr<std::unique_ptr<BackupJob>> made =
        BackupJob::Make(backup, parts, std::move(hooks));
    if (!made.ok()) return made.status();
    copy_ = (*made)->copy();
    const absl::Status status = scheduler.Create(job, *std::move(made));
    if (status.ok()) scheduler.Start(job.id);
    return status;
  }

  void GuestWrites(Range range) {
    ASSERT_TRUE(copy_->Capture(range).ok());
    ASSERT_TRUE(
        source_->Write(range.offset_bytes, AsBytes(std::string(range.length_bytes, 'g'))).ok());
  }

  std::string before_;
  std::shared_ptr<MemoryStorage> source_ = std::make_shared<MemoryStorage>(kSize);
  std::shared_ptr<MemoryStorage> target_ = std::make_shared<MemoryStorage>(kSize);
  std::shared_ptr<FailingStorage> bad_target_ = std::make_shared<FailingStorage>(target_);
  bitmap::DirtyBitmap bits_;
  bool fleecing_ = false;
  std::shared_ptr<copy::BlockCopy> copy_;
  std::vector<std::string> hooks_called_;
  uint64_t not_copied_bytes_ = ~uint64_t{0};
};

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST_F(BackupJobTest, AFullBackupHoldsTheDiskAsItWasAtTheStart) {
  ASSERT_TRUE(Backup({.sync = SyncMode::kFull}, {.id = "j"}).ok());
  GuestWrites({3 * kCluster, 100});
  Settle();
  EXPECT_EQ(target_->Contents(), before_);
  EXPECT_EQ(diary.Take(),
            "j created, j running, j waiting, j pending, j COMPLETED, j concluded, j null");
  EXPECT_EQ(diary.last["j"].progress, (Progress{kSize, kSize}));
  EXPECT_THAT(hooks_called_, ElementsAre("prepare", "commit", "clean"));
  EXPECT_EQ(not_copied_bytes_, 0u);
}

TEST_F(BackupJobTest, AnIncrementalCopiesTheClustersOfItsBits) {
  bits_.Set({5 * kCluster + 512, 512});
  bits_.Set({9 * kCluster, 1});
  BackupOptions options{.sync = SyncMode::kIncremental, .bitmap = "b"};
  ASSERT_TRUE(ValidateBitmapChoice(&options).ok());
  ASSERT_TRUE(Backup(options, {.id = "j"}).ok());
  Settle();
  EXPECT_EQ(diary.last["j"].progress, (Progress{2 * kCluster, 2 * kCluster}));
  EXPECT_EQ(target_->Contents({5 * kCluster, kCluster}), before_.substr(5 * kCluster, kCluster));
  EXPECT_EQ(target_->Contents({6 * kCluster, kCluster}), std::string(kCluster, '\0'));
}

TEST_F(BackupJobTest, AnEmptyBitmapCompletesWithNothing) {
  ASSERT_TRUE(Backup({.sync = SyncMode::kBitmap, .bitmap = "b"}, {.id = "j"}).ok());
  Settle();
  EXPECT_THAT(diary.Take(), HasSubstr("j COMPLETED"));
  EXPECT_EQ(diary.last["j"].progress, (Progress{0, 0}));
}

TEST_F(BackupJobTest, SyncNoneRunsUntilItIsCancelled) {
  fleecing_ = true;
  ASSERT_TRUE(Backup({.sync = SyncMode::kNone}, {.id = "j"}).ok());
  Pass(absl::Minutes(1));
  EXPECT_EQ(StatusOf("j"), JobStatus::kRunning);
  GuestWrites({3 * kCluster, 100});
  EXPECT_EQ(target_->Contents({3 * kCluster, kCluster}), before_.substr(3 * kCluster, kCluster));
  Pass(absl::Seconds(1));
  EXPECT_EQ(scheduler.Find("j")->progress.current_bytes, kCluster);
  EXPECT_FALSE(scheduler.Complete(VerbFamily::kJob, "j").ok());
  diary.Take();
  ASSERT_TRUE(scheduler.Cancel(VerbFamily::kJob, "j", true).ok());
  Settle();
  EXPECT_EQ(diary.Take(), "j aborting, j CANCELLED, j concluded, j null");
  EXPECT_THAT(hooks_called_, ElementsAre("abort", "clean"));
}

TEST_F(BackupJobTest, ACancelledBackupTellsWhatWasNotCopied) {
  ASSERT_TRUE(Backup({.sync = SyncMode::kFull}, {.id = "j", .speed = 1}).ok());
  Pass(absl::Seconds(5));
  EXPECT_EQ(scheduler.Find("j")->progress.current_bytes, 1u << 20);
  ASSERT_TRUE(scheduler.Cancel(VerbFamily::kBlockJob, "j", false).ok());
  Settle();
  EXPECT_EQ(not_copied_bytes_, kSize - (1 << 20));
}

TEST_F(BackupJobTest, AFullDiskPausesItAndResumeCompletesIt) {
  JobOptions job{.id = "j"};
  job.on_target_error = ErrorPolicy::kEnospc;
  bad_target_->AddRule({.status = absl::ResourceExhaustedError("No space left on device"),
                        .verb = Verb::kWrite,
                        .pass_count = 2});
  ASSERT_TRUE(Backup({.sync = SyncMode::kFull}, job).ok());
  Settle();
  EXPECT_EQ(StatusOf("j"), JobStatus::kPaused);
  EXPECT_EQ(scheduler.Find("j")->io_status, IoStatus::kNoSpace);
  GuestWrites({0, kSize});
  bad_target_->ClearRules();
  ASSERT_TRUE(scheduler.Resume(VerbFamily::kJob, "j").ok());
  Settle();
  EXPECT_EQ(target_->Contents(), before_);
  EXPECT_THAT(diary.Take(), HasSubstr("j COMPLETED, j concluded, j null"));
}

TEST_F(BackupJobTest, AJobThatStoppedWhileGuestsWroteIsResumedByOneResume) {
  JobOptions job{.id = "j", .speed = 1};
  job.on_target_error = ErrorPolicy::kEnospc;
  bad_target_->AddRule(
      {.status = absl::ResourceExhaustedError("No space left on device"), .verb = Verb::kWrite});
  ASSERT_TRUE(Backup({.sync = SyncMode::kFull}, job).ok());
  Settle();
  ASSERT_EQ(StatusOf("j"), JobStatus::kPaused);
  // A chunk has been read by now: this is beyond.
  GuestWrites({40 * kCluster, 20 * kCluster});
  Settle();
  bad_target_->ClearRules();
  ASSERT_TRUE(scheduler.SetSpeed(VerbFamily::kJob, "j", 0).ok());
  ASSERT_TRUE(scheduler.Resume(VerbFamily::kJob, "j").ok());
  Settle();
  EXPECT_EQ(diary.errors, 1) << diary.Take();
  EXPECT_EQ(target_->Contents(), before_);
  EXPECT_THAT(diary.Take(), HasSubstr("j COMPLETED, j concluded, j null"));
}

TEST_F(BackupJobTest, ACancelledBackupIsFlushedBeforeItSaysWhatWasCopied) {
  ASSERT_TRUE(Backup({.sync = SyncMode::kFull}, {.id = "j", .speed = 1}).ok());
  Settle();
  EXPECT_GT(scheduler.Find("j")->progress.current_bytes, 0u);
  bad_target_->AddRule({.status = absl::UnknownError("gone"), .verb = Verb::kFlush});
  ASSERT_TRUE(scheduler.Cancel(VerbFamily::kJob, "j", /*force=*/true).ok());
  Settle();
  EXPECT_GT(bad_target_->failure_count(), 0);
  EXPECT_EQ(not_copied_bytes_, kSize);
}

TEST_F(BackupJobTest, ABackupWhoseLastFlushFailsHasCopiedNothing) {
  bad_target_->AddRule(
      {.status = absl::UnknownError("gone"), .verb = Verb::kFlush, .fail_count = 1});
  ASSERT_TRUE(Backup({.sync = SyncMode::kFull}, {.id = "j"}).ok());
  Settle();
  EXPECT_THAT(diary.Take(), HasSubstr("j ERROR write report, j aborting, j COMPLETED(gone)"));
  EXPECT_EQ(not_copied_bytes_, kSize);
}

TEST_F(BackupJobTest, AnIgnoredErrorIsRetriedAndTheCopyIsIdentical) {
  JobOptions job{.id = "j"};
  job.on_target_error = ErrorPolicy::kIgnore;
  bad_target_->AddRule({.status = absl::UnknownError("Input/output error"),
                        .verb = Verb::kWrite,
                        .pass_count = 1,
                        .fail_count = 3});
  ASSERT_TRUE(Backup({.sync = SyncMode::kFull}, job).ok());
  Pass(absl::Seconds(2));
  EXPECT_EQ(target_->Contents(), before_);
  EXPECT_GE(diary.errors, 1);
  EXPECT_THAT(diary.Take(), HasSubstr("j ERROR write ignore"));
}

TEST_F(BackupJobTest, APermanentIgnoredErrorStaysCancellable) {
  JobOptions job{.id = "j"};
  job.on_target_error = ErrorPolicy::kIgnore;
  bad_target_->AddRule({.status = absl::UnknownError("broken"), .verb = Verb::kWrite});
  ASSERT_TRUE(Backup({.sync = SyncMode::kFull}, job).ok());
  Pass(absl::Seconds(5));
  EXPECT_LE(diary.errors, 60);
  EXPECT_EQ(StatusOf("j"), JobStatus::kRunning);
  ASSERT_TRUE(scheduler.Cancel(VerbFamily::kBlockJob, "j", false).ok());
  Settle();
  EXPECT_THAT(diary.Take(), HasSubstr("j aborting, j CANCELLED, j concluded, j null"));
  EXPECT_EQ(not_copied_bytes_, kSize);
}

TEST_F(BackupJobTest, AGuestWriteIsNotFailedByABrokenTarget) {
  JobOptions job{.id = "j", .speed = 1};
  bad_target_->AddRule({.status = absl::UnknownError("broken"), .verb = Verb::kWrite});
  ASSERT_TRUE(Backup({.sync = SyncMode::kFull}, job).ok());
  GuestWrites({20 * kCluster, 100});
  Settle();
  EXPECT_THAT(diary.Take(), HasSubstr("j ERROR write report, j aborting, j COMPLETED(broken)"));
}

TEST_F(BackupJobTest, DisksTooLargeToKeepAccountOfAreRefused) {
  BackupParts parts;
  parts.source = std::make_shared<storage::NullStorage>((bitmap::kGranuleCountMax + 1) * kCluster);
  parts.target = parts.source;
  parts.clock = &clock;
  const auto made = BackupJob::Make({.job_id = "b"}, parts, {});
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(DetailsOf(made.status())->reason, Reason::kLimitReached);
}

TEST_F(BackupJobTest, DisksOfDifferentSizesAreRefused) {
  target_ = std::make_shared<MemoryStorage>(kSize + 512);
  bad_target_ = std::make_shared<FailingStorage>(target_);
  const absl::Status status = Backup({.sync = SyncMode::kFull}, {.id = "j"});
  EXPECT_EQ(DetailsOf(status)->reason, Reason::kSizeMismatch);
  EXPECT_THAT(std::string(status.message()), HasSubstr("copy0"));
  EXPECT_TRUE(scheduler.QueryJobs().empty());
}

TEST_F(BackupJobTest, ATargetThatCannotCompressIsRefused) {
  class Plain final : public storage::ForwardingStorage {
   public:
    using ForwardingStorage::ForwardingStorage;
    storage::Limits limits() const override {
      storage::Limits limits = ForwardingStorage::limits();
      limits.can_write_compressed = false;
      return limits;
    }
  };
  bad_target_ = std::make_shared<FailingStorage>(std::make_shared<Plain>(target_));
  const absl::Status status = Backup({.sync = SyncMode::kFull, .compress = true}, {.id = "j"});
  EXPECT_THAT(std::string(status.message()), HasSubstr("copy0"));
}

TEST_F(BackupJobTest, ACreateJobReportsItsOneStep) {
  bool cleaned = false;
  ASSERT_TRUE(scheduler
                  .Create({.id = "c", .type = JobType::kCreate, .auto_dismiss = false},
                          std::make_unique<CreateJob>(
                              [](const std::atomic<bool>&) { return absl::OkStatus(); },
                              [&cleaned] { cleaned = true; }))
                  .ok());
  EXPECT_EQ(scheduler.Find("c")->progress, (Progress{0, 1}));
  scheduler.Start("c");
  Settle();
  EXPECT_EQ(diary.Take(), "c created, c running, c waiting, c pending, c concluded");
  EXPECT_EQ(scheduler.Find("c")->progress, (Progress{1, 1}));
  EXPECT_TRUE(cleaned);
}

TEST_F(BackupJobTest, ACreateJobLearnsThatItIsCancelledWhileItWorks) {
  bool seen = false;
  ASSERT_TRUE(scheduler
                  .Create({.id = "c", .type = JobType::kCreate, .auto_dismiss = false},
                          std::make_unique<CreateJob>([&](const std::atomic<bool>& cancelled) {
                            EXPECT_FALSE(cancelled);
                            EXPECT_TRUE(
                                scheduler.Cancel(VerbFamily::kJob, "c", /*force=*/true).ok());
                            seen = cancelled;
                            return absl::UnknownError("interrupted");
                          }))
                  .ok());
  scheduler.Start("c");
  Settle();
  EXPECT_TRUE(seen);
  EXPECT_EQ(scheduler.Find("c")->error.code(), absl::StatusCode::kCancelled);
}

TEST_F(BackupJobTest, ACreateJobThatFailsKeepsItsError) {
  ASSERT_TRUE(scheduler
                  .Create({.id = "c", .type = JobType::kCreate, .auto_dismiss = false},
                          std::make_unique<CreateJob>(
                              [](const std::atomic<bool>&) { return absl::UnknownError("odd"); }))
                  .ok());
  scheduler.Start("c");
  Settle();
  EXPECT_EQ(diary.Take(), "c created, c running, c aborting, c concluded");
  EXPECT_EQ(scheduler.Find("c")->error.message(), "odd");
}

}  // namespace
}  // namespace tidemark::job
