// Errors while a backup runs: what each policy does, and that the guest never pays for them.
#include <unistd.h>

#include "absl/time/clock.h"
#include "tests/conformance/conformance.h"
#include "tests/support/process.h"

namespace tidemark::test {
namespace {

class BackupErrors : public Conformance {
 protected:
  // A disk of compressed clusters, one of which cannot be read: its compressed bytes are damaged.
  void CreateDamagedDisk() {
    const std::string plain = folder().File("plain.raw");
    WriteFile(plain, PatternBytes(1, {0, kDiskBytes}));
    ASSERT_EQ(RunTool({"qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", plain,
                       operate().FileOf("disk0")})
                  .exit_status,
              0);
    unlink(plain.c_str());
    const uint64_t file_bytes = ReadFile(operate().FileOf("disk0")).size();
    // The data lie at the end of the file, behind the tables.
    damage_at_ = file_bytes - 32 * 1024;
    healthy_ = ReadFileAt(operate().FileOf("disk0"), damage_at_, 2048);
    PatchFile(operate().FileOf("disk0"), damage_at_, std::string(2048, '\xff'));
    operate().Attach("disk0");
  }
  void Heal() { PatchFile(operate().FileOf("disk0"), damage_at_, healthy_); }

  void CreateCrampedTarget() {
    Image::Create(operate().FileOf("target0"), kDiskBytes);
    operate().Do(Add(CrampedOptions("target0", operate().FileOf("target0"), 2 * kMiB)));
  }
  // A target on a small file system of its own, or a skip if this process may not mount one.
  void CreateTargetOnASmallFileSystem() {
    const std::string mount_point = folder().MakeFolder("small");
    small_ = std::make_unique<SmallFileSystem>(mount_point, 3 * kMiB);
    if (!small_->mounted()) GTEST_SKIP() << "this process may not mount a file system";
    Image::Create(mount_point + "/target.qcow2", kDiskBytes);
    operate().Do(Add(Qcow2Options("target0", mount_point + "/target.qcow2")));
  }
  void TearDown() override {
    Conformance::TearDown();
    small_.reset();
  }
  bool WaitForError(const std::string& job) {
    return events().WaitForKind(job, v1::EVENT_KIND_BLOCK_JOB_ERROR);
  }
  const v1::BlockJobErrorEvent FirstError() {
    for (const v1::Event& event : events().events()) {
      if (event.has_block_job_error()) return event.block_job_error();
    }
    return {};
  }

  std::unique_ptr<SmallFileSystem> small_;

 private:
  uint64_t damage_at_ = 0;
  std::string healthy_;
};

TEST_P(BackupErrors, ASourceErrorEndsTheJob) {
  CreateDamagedDisk();
  operate().CreateDisk("target0");
  operate().Do(Backup({}));
  operate().AwaitEnd("job0");
  EXPECT_EQ(operate().StoryOf("job0"),
            (Story{"created", "running", "ERROR(read, report)", "aborting", "COMPLETED(error)",
                   "concluded", "null"}));
  const v1::Job job = operate().Job("job0");
  EXPECT_EQ(job.outcome(), v1::JOB_OUTCOME_FAILED);
  EXPECT_GE(job.error_count(), 1u);
  EXPECT_FALSE(job.error().empty());
}

TEST_P(BackupErrors, ASourceErrorStopsTheJobUntilItIsResumed) {
  CreateDamagedDisk();
  operate().CreateDisk("target0");
  operate().Do(Backup({.on_source_error = kStop}));
  operate().AwaitStatus("job0", v1::JOB_STATUS_PAUSED);
  EXPECT_TRUE(WaitForError("job0"));
  EXPECT_EQ(FirstError().operation(), v1::IO_OPERATION_TYPE_READ);
  EXPECT_EQ(FirstError().action(), v1::BLOCK_ERROR_ACTION_STOP);
  EXPECT_EQ(operate().BlockJob("job0").io_status(), v1::BLOCK_DEVICE_IO_STATUS_FAILED);
  EXPECT_EQ(operate().BlockJob("job0").status(), v1::JOB_STATUS_PAUSED);

  Heal();
  operate().Do(OfJob<v1::JobResumeRequest>("job0"));
  operate().Finish("job0");
  DetachAndCheck({"disk0", "target0"});
  EXPECT_THAT(image("target0").Contents(), HoldsSameAs(PatternBytes(1, {0, kDiskBytes})));
}

TEST_P(BackupErrors, ASourceErrorThatIsIgnoredIsTriedAgain) {
  CreateDamagedDisk();
  operate().CreateDisk("target0");
  operate().Do(Backup({.on_source_error = kIgnore}));
  EXPECT_TRUE(WaitForError("job0"));
  EXPECT_EQ(FirstError().action(), v1::BLOCK_ERROR_ACTION_IGNORE);
  Heal();
  operate().Finish("job0");
  DetachAndCheck({"disk0", "target0"});
  EXPECT_THAT(image("target0").Contents(), HoldsSameAs(PatternBytes(1, {0, kDiskBytes})));
}

TEST_P(BackupErrors, AStormOfErrorsIsToldInFewEvents) {
  CreateDamagedDisk();
  operate().CreateDisk("target0");
  operate().Do(Backup({.on_source_error = kIgnore}));
  EXPECT_TRUE(WaitForError("job0"));
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  while (operate().Job("job0").error_count() < 20 && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(20));
  }
  EXPECT_GE(operate().Job("job0").error_count(), 20u);
  operate().CancelAndAwait("job0");
  // By the service's own stamps, so however slow this machine is: some ten in a second, and what is
  // left over whenever the job is told to have changed.
  std::vector<int64_t> told_ms;
  for (const v1::Event& event : events().events()) {
    if (!event.has_block_job_error()) continue;
    told_ms.push_back(event.time().seconds() * 1000 + event.time().nanos() / 1'000'000);
  }
  ASSERT_FALSE(told_ms.empty());
  EXPECT_LE(static_cast<int64_t>(told_ms.size()), 5 + (told_ms.back() - told_ms.front()) / 100);
  EXPECT_GE(events().ErrorsOf("job0"), 20u) << "the counts add up to all errors";
}

TEST_P(BackupErrors, ATargetErrorEndsTheJobAndTheGuestGoesOn) {
  CreateFullDisk();
  CreateCrampedTarget();
  operate().Do(Backup({.speed = kHold}));
  // The guest makes the job save more than the target has room for.
  for (uint64_t i = 0; i < 128; i += 2) guest().Write(9, Clusters(i, 1));
  // If it has not ended over that already.
  operate().Try(SetSpeed("job0", 0));
  operate().AwaitEnd("job0");
  EXPECT_EQ(operate().Job("job0").outcome(), v1::JOB_OUTCOME_FAILED);
  EXPECT_EQ(operate().Job("job0").error_reason(), v1::ERROR_REASON_NO_SPACE);
  EXPECT_THAT(operate().StoryOf("job0"), ::testing::Contains("ERROR(write, report)"));
  guest().Write(10, Clusters(0, 128));
  EXPECT_THAT(guest().ReadAll(), HoldsSameAs(ModelOf("disk0")->bytes()));
}

TEST_P(BackupErrors, AGuestIsNeverFailedByATargetThatStays) {
  CreateFullDisk();
  CreateCrampedTarget();
  operate().Do(Backup({.on_target_error = kStop}));
  operate().AwaitStatus("job0", v1::JOB_STATUS_PAUSED);
  EXPECT_EQ(operate().BlockJob("job0").io_status(), v1::BLOCK_DEVICE_IO_STATUS_NOSPACE);
  for (uint64_t i = 0; i < 128; i += 4) guest().Write(9, Clusters(i, 1));
  EXPECT_THAT(guest().ReadAll(), HoldsSameAs(ModelOf("disk0")->bytes()));
  operate().CancelAndAwait("job0");
  EXPECT_EQ(operate().Job("job0").outcome(), v1::JOB_OUTCOME_CANCELLED);
}

TEST_P(BackupErrors, AFullDiskStopsAJobThatWaitsForSpace) {
  for (v1::BlockdevOnError policy : {kEnospc, kAuto}) {
    const std::string number = std::to_string(policy);
    SCOPED_TRACE(number);
    operate().CreateDisk("s" + number);
    guest("s" + number).Write(1, {0, kDiskBytes});
    const std::string target = "t" + number;
    Image::Create(operate().FileOf(target), kDiskBytes);
    operate().Do(Add(CrampedOptions(target, operate().FileOf(target), 2 * kMiB)));
    operate().Do(Backup({.job = "j" + number,
                         .source = "s" + number,
                         .target = target,
                         .on_target_error = policy}));
    operate().AwaitStatus("j" + number, v1::JOB_STATUS_PAUSED);
    EXPECT_EQ(operate().BlockJob("j" + number).io_status(), v1::BLOCK_DEVICE_IO_STATUS_NOSPACE);
    // Resumed without more space it stops again.
    operate().Do(OfJob<v1::JobResumeRequest>("j" + number));
    EXPECT_TRUE(events().WaitForStatusTimes("j" + number, v1::JOB_STATUS_PAUSED, 2));
    operate().CancelAndAwait("j" + number);
  }
}

TEST_P(BackupErrors, EnospcDoesNotStopForOtherErrors) {
  CreateDamagedDisk();
  operate().CreateDisk("target0");
  operate().Do(Backup({.on_source_error = kEnospc}));
  operate().AwaitEnd("job0");
  EXPECT_EQ(operate().Job("job0").outcome(), v1::JOB_OUTCOME_FAILED);
}

TEST_P(BackupErrors, FreedSpaceLetsAStoppedJobFinish) {
  CreateTargetOnASmallFileSystem();
  if (IsSkipped()) return;
  CreateFullDisk();
  const std::string before = ModelOf("disk0")->bytes();
  operate().Do(Backup({.on_target_error = kEnospc}));
  operate().AwaitStatus("job0", v1::JOB_STATUS_PAUSED);
  EXPECT_EQ(operate().BlockJob("job0").io_status(), v1::BLOCK_DEVICE_IO_STATUS_NOSPACE);
  small_->Resize(4 * kDiskBytes);
  // Whether the copy has been there or not: what is overwritten is kept.
  guest().Write(2, Clusters(0, 2));
  operate().Do(OfJob<v1::JobResumeRequest>("job0"));
  operate().Finish("job0");
  EXPECT_EQ(operate().Job("job0").io_status(), v1::BLOCK_DEVICE_IO_STATUS_OK);
  operate().Detach("target0");
  const Image target(folder().File("small/target.qcow2"));
  EXPECT_THAT(target, IsSound());
  EXPECT_THAT(target.Contents(), HoldsSameAs(before));
}

TEST_P(BackupErrors, CancellingAJobThatAnErrorHasStopped) {
  CreateFullDisk();
  CreateCrampedTarget();
  operate().Do(Backup({.on_target_error = kStop}));
  operate().AwaitStatus("job0", v1::JOB_STATUS_PAUSED);
  ExpectRefused(Cancel("job0", /*force=*/false), v1::ERROR_REASON_JOB_STATE, {"job0"});
  operate().Do(Cancel("job0", /*force=*/true));
  operate().AwaitEnd("job0");
  Story story = operate().StoryOf("job0");
  std::erase(story, "ERROR(write, stop)");
  // The stop was nobody's wish but the policy's; what is left is a cancellation.
  std::erase(story, "paused");
  EXPECT_EQ(story.back(), "null");
  EXPECT_THAT(story, ::testing::Contains("CANCELLED"));
}

TEST_P(BackupErrors, CompressedWritesNeedFreshClusters) {
  CreateFullDisk();
  operate().CreateDisk("target0");
  operate().Do(Backup({}));
  operate().Finish("job0");
  operate().Do(Backup({.job = "again", .compress = true}));
  operate().AwaitEnd("again");
  EXPECT_EQ(operate().Job("again").outcome(), v1::JOB_OUTCOME_FAILED);
}

ON_EVERY_BACKEND(BackupErrors);

}  // namespace
}  // namespace tidemark::test
