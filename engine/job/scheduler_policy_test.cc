// What the scheduler does about errors, speed, and jobs that are ready.
#include "engine/base/error.h"
#include "engine/job/limits.h"
#include "engine/job/scheduler.h"
#include "engine/job/scheduler_world.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark::job {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const StepResult kMore{.next = StepResult::Next::kAgain, .moved_bytes = 1 << 20};
const StepResult kDone{.next = StepResult::Next::kDone};

StepResult Failing(bool is_read, absl::Status status = absl::UnknownError("Input/output error")) {
  StepResult result;
  result.io_error = IoError{is_read, std::move(status)};
  return result;
}

Reason ReasonOf(const absl::Status& status) {
  const auto details = DetailsOf(status);
  CHECK(details.has_value());
  return details->reason;
}

class SchedulerTest : public ::testing::Test, public SchedulerWorld {};

// ---- Ready jobs (mirrors)

class ReadyTest : public SchedulerTest {
 protected:
  void SetUp() override {
    StepResult ready{.next = StepResult::Next::kWait};
    ready.ready = true;
    scripts["m"].steps = {kMore, ready};
    ASSERT_TRUE(Launch({.id = "m", .type = JobType::kMirror}).ok());
    Settle();
    ASSERT_EQ(diary.Take(), "m created, m running, m ready, m READY");
    ASSERT_TRUE(scheduler.Find("m")->ready);
  }
};

TEST_F(ReadyTest, CompleteEndsIt) {
  ASSERT_TRUE(scheduler.Complete(VerbFamily::kJob, "m").ok());
  Settle();
  EXPECT_EQ(diary.Take(), "m waiting, m pending, m COMPLETED, m concluded, m null");
  EXPECT_THAT(scripts["m"].calls, ::testing::Contains("ending complete"));
}

TEST_F(ReadyTest, SoftCancelEndsItWithSuccess) {
  ASSERT_TRUE(scheduler.Cancel(VerbFamily::kBlockJob, "m", false).ok());
  Settle();
  EXPECT_EQ(diary.Take(), "m waiting, m pending, m COMPLETED, m concluded, m null");
  EXPECT_THAT(scripts["m"].calls, ::testing::Contains("ending stop"));
}

TEST_F(ReadyTest, HowItEndsIsDecidedByWhoWasFirst) {
  ASSERT_TRUE(scheduler.Cancel(VerbFamily::kBlockJob, "m", false).ok());
  const absl::Status late = scheduler.Complete(VerbFamily::kJob, "m");
  EXPECT_EQ(ReasonOf(late), Reason::kJobState) << late;
  EXPECT_NE(late.message().find("'m'"), absl::string_view::npos) << late;
  Settle();
  EXPECT_THAT(scripts["m"].calls, ::testing::Not(::testing::Contains("ending complete")));
}

TEST_F(ReadyTest, ASoftCancelDoesNotTakeACompletionBack) {
  ASSERT_TRUE(scheduler.Complete(VerbFamily::kJob, "m").ok());
  ASSERT_TRUE(scheduler.Cancel(VerbFamily::kBlockJob, "m", false).ok());
  Settle();
  EXPECT_THAT(scripts["m"].calls, ::testing::Contains("ending complete"));
  EXPECT_THAT(scripts["m"].calls, ::testing::Not(::testing::Contains("ending stop")));
}

TEST_F(ReadyTest, JobCancelAbortsIt) {
  ASSERT_TRUE(scheduler.Cancel(VerbFamily::kJob, "m", false).ok());
  Settle();
  EXPECT_EQ(diary.Take(), "m aborting, m CANCELLED, m concluded, m null");
}

TEST_F(ReadyTest, PauseIsStandbyAndCompleteThereTakesEffectAfterResume) {
  ASSERT_TRUE(scheduler.Pause(VerbFamily::kJob, "m").ok());
  Settle();
  EXPECT_EQ(diary.Take(), "m standby");
  EXPECT_TRUE(scheduler.Find("m")->ready);
  EXPECT_TRUE(scheduler.Find("m")->paused);
  ASSERT_TRUE(scheduler.Complete(VerbFamily::kJob, "m").ok());
  ASSERT_TRUE(scheduler.Complete(VerbFamily::kJob, "m").ok());
  Settle();
  EXPECT_EQ(diary.Take(), "");
  ASSERT_TRUE(scheduler.Resume(VerbFamily::kJob, "m").ok());
  Settle();
  EXPECT_EQ(diary.Take(), "m ready, m waiting, m pending, m COMPLETED, m concluded, m null");
}

TEST_F(ReadyTest, CancelInStandbyPassesThroughReady) {
  ASSERT_TRUE(scheduler.Pause(VerbFamily::kJob, "m").ok());
  Settle();
  diary.Take();
  ASSERT_TRUE(scheduler.Cancel(VerbFamily::kJob, "m", true).ok());
  Settle();
  EXPECT_EQ(diary.Take(), "m ready, m aborting, m CANCELLED, m concluded, m null");
}

TEST_F(ReadyTest, AnErrorStopsItInStandby) {
  JobOptions options{.id = "n", .type = JobType::kMirror};
  options.on_target_error = ErrorPolicy::kStop;
  StepResult ready = kMore;
  ready.ready = true;
  scripts["n"].steps = {ready, Failing(false)};
  ASSERT_TRUE(Launch(options).ok());
  Settle();
  EXPECT_EQ(diary.Take(), "n created, n running, n ready, n READY, n ERROR write stop, n standby");
}

// ---- Errors

TEST_F(SchedulerTest, ReportedErrorFailsTheJob) {
  scripts["j"].steps = {Failing(true)};
  ASSERT_TRUE(Launch({.id = "j"}).ok());
  Settle();
  EXPECT_EQ(diary.Take(),
            "j created, j running, j ERROR read report, j aborting, "
            "j COMPLETED(Input/output error), j concluded, j null");
}

TEST_F(SchedulerTest, StoppedErrorPausesAndResumeTriesAgain) {
  JobOptions options{.id = "j"};
  options.on_target_error = ErrorPolicy::kStop;
  scripts["j"].steps = {Failing(false), kDone};
  ASSERT_TRUE(Launch(options).ok());
  Settle();
  EXPECT_EQ(diary.Take(), "j created, j running, j ERROR write stop, j paused");
  EXPECT_EQ(scheduler.Find("j")->io_status, IoStatus::kFailed);
  ASSERT_TRUE(scheduler.Resume(VerbFamily::kJob, "j").ok());
  EXPECT_EQ(scheduler.Find("j")->io_status, IoStatus::kOk);
  Settle();
  EXPECT_EQ(diary.Take(), "j running, j waiting, j pending, j COMPLETED, j concluded, j null");
}

TEST_F(SchedulerTest, EnospcAndAutoStopOnAFullDiskOnly) {
  for (const ErrorPolicy policy : {ErrorPolicy::kEnospc, ErrorPolicy::kAuto}) {
    JobOptions options{.id = "full"};
    options.on_target_error = policy;
    scripts["full"].steps = {
        Failing(false, absl::ResourceExhaustedError("No space left on device"))};
    ASSERT_TRUE(Launch(options).ok());
    Settle();
    EXPECT_EQ(diary.Take(), "full created, full running, full ERROR write stop, full paused");
    EXPECT_EQ(scheduler.Find("full")->io_status, IoStatus::kNoSpace);
    ASSERT_TRUE(scheduler.Cancel(VerbFamily::kJob, "full", true).ok());
    Settle();
    EXPECT_EQ(diary.Take(),
              "full running, full aborting, full CANCELLED, full concluded, full null");

    options.id = "other";
    scripts["other"].steps = {Failing(false)};
    ASSERT_TRUE(Launch(options).ok());
    Settle();
    EXPECT_THAT(diary.Take(), HasSubstr("other ERROR write report, other aborting"));
  }
}

TEST_F(SchedulerTest, EachSideHasItsOwnPolicy) {
  JobOptions options{.id = "j"};
  options.on_source_error = ErrorPolicy::kStop;
  scripts["j"].steps = {Failing(true), Failing(false)};
  ASSERT_TRUE(Launch(options).ok());
  Settle();
  EXPECT_EQ(diary.Take(), "j created, j running, j ERROR read stop, j paused");
  ASSERT_TRUE(scheduler.Resume(VerbFamily::kJob, "j").ok());
  Settle();
  EXPECT_THAT(diary.Take(), HasSubstr("j running, j ERROR write report, j aborting"));
}

TEST_F(SchedulerTest, IgnoredErrorsAreTriedAgainAtABoundedRate) {
  JobOptions options{.id = "j"};
  options.on_target_error = ErrorPolicy::kIgnore;
  scripts["j"].otherwise = Failing(false);
  ASSERT_TRUE(Launch(options).ok());
  Pass(absl::Seconds(10));
  EXPECT_GE(diary.errors, 100);
  EXPECT_LE(diary.errors, 110);
  EXPECT_EQ(StatusOf("j"), JobStatus::kRunning);
  // Waking does not shorten the pause between attempts.
  const int before = diary.errors;
  for (int i = 0; i < 50; ++i) {
    scripts["j"].waker();
    Settle();
  }
  EXPECT_EQ(diary.errors, before);
  diary.Take();
  ASSERT_TRUE(scheduler.Cancel(VerbFamily::kBlockJob, "j", false).ok());
  Settle();
  EXPECT_EQ(diary.Take(), "j aborting, j CANCELLED, j concluded, j null");
}

TEST_F(SchedulerTest, WhatCannotBeMadeGoodEndsTheJobWhateverItsPolicy) {
  for (const ErrorPolicy policy :
       {ErrorPolicy::kIgnore, ErrorPolicy::kStop, ErrorPolicy::kEnospc}) {
    JobOptions options{.id = "j"};
    options.on_target_error = policy;
    StepResult step = Failing(false);
    step.io_error->status = storage::LossStatus(ENOSPC, "cannot flush \"/t\"");
    scripts["j"].steps = {step};
    ASSERT_TRUE(Launch(options).ok());
    Settle();
    EXPECT_THAT(diary.Take(), HasSubstr("j running, j ERROR write report, j aborting"));
  }
}

TEST_F(SchedulerTest, OneIgnoredErrorIsFollowedBySuccess) {
  JobOptions options{.id = "j"};
  options.on_source_error = ErrorPolicy::kIgnore;
  scripts["j"].steps = {kMore, Failing(true), kMore, kDone};
  ASSERT_TRUE(Launch(options).ok());
  Pass(absl::Seconds(1));
  EXPECT_EQ(diary.Take(),
            "j created, j running, j ERROR read ignore, j waiting, j pending, j COMPLETED, "
            "j concluded, j null");
}

TEST_F(SchedulerTest, APausedJobThatIsLostFailsWithoutBeingResumed) {
  ASSERT_TRUE(Launch({.id = "j"}).ok());
  ASSERT_TRUE(scheduler.Pause(VerbFamily::kJob, "j").ok());
  Settle();
  diary.Take();
  scripts["j"].lost = absl::UnknownError("the target stands still");
  scripts["j"].waker();
  Settle();
  EXPECT_EQ(diary.Take(),
            "j running, j aborting, j COMPLETED(the target stands still), j concluded, j null");
}

TEST_F(SchedulerTest, AJobThatIsLostFailsAtOnceHoweverSlowItIsMeantToBe) {
  scripts["j"].otherwise = kMore;
  ASSERT_TRUE(Launch({.id = "j", .speed = 1}).ok());
  Settle();
  diary.Take();
  scripts["j"].lost = absl::UnknownError("the target stands still");
  scripts["j"].waker();
  Settle();
  EXPECT_EQ(diary.Take(), "j aborting, j COMPLETED(the target stands still), j concluded, j null");
}

TEST_F(SchedulerTest, AFailureIsToldAtOnceHoweverSlowTheJobIsMeantToBe) {
  JobOptions options{.id = "j", .speed = 1};
  options.on_target_error = ErrorPolicy::kStop;
  scripts["j"].otherwise = kMore;
  ASSERT_TRUE(Launch(options).ok());
  Settle();
  diary.Take();
  scripts["j"].steps = {Failing(false)};
  scripts["j"].waker();
  Settle();
  EXPECT_EQ(diary.Take(), "j ERROR write stop, j paused");
  EXPECT_EQ(scheduler.Find("j")->io_status, IoStatus::kFailed);
}

TEST_F(SchedulerTest, AFailureDuringAPauseIsToldOnceAndTriedAgainAfterIt) {
  JobOptions options{.id = "j"};
  options.on_target_error = ErrorPolicy::kStop;
  ASSERT_TRUE(Launch(options).ok());
  ASSERT_TRUE(scheduler.Pause(VerbFamily::kJob, "j").ok());
  Settle();
  diary.Take();
  for (int i = 0; i < 3; ++i) {
    scripts["j"].error = IoError{false, absl::UnknownError("Input/output error")};
    scripts["j"].waker();
    Settle();
  }
  EXPECT_EQ(diary.Take(), "j ERROR write stop");
  EXPECT_EQ(scheduler.Find("j")->io_status, IoStatus::kFailed);
  ASSERT_TRUE(scheduler.Resume(VerbFamily::kJob, "j").ok());
  Settle();
  EXPECT_EQ(diary.Take(), "j running");
}

TEST_F(SchedulerTest, AFailureDuringAPauseEndsAJobThatStopsForNone) {
  ASSERT_TRUE(Launch({.id = "j"}).ok());
  ASSERT_TRUE(scheduler.Pause(VerbFamily::kJob, "j").ok());
  Settle();
  diary.Take();
  scripts["j"].error = IoError{false, absl::UnknownError("Input/output error")};
  scripts["j"].waker();
  Settle();
  EXPECT_EQ(diary.Take(),
            "j ERROR write report, j running, j aborting, j COMPLETED(Input/output error), "
            "j concluded, j null");
}

// ---- Speed

TEST_F(SchedulerTest, SpeedIsKeptOverSecondsAndTheFirstChunkIsFree) {
  scripts["j"].otherwise = kMore;
  ASSERT_TRUE(Launch({.id = "j", .speed = 1 << 20}).ok());
  Settle();
  EXPECT_EQ(scripts["j"].progress.current_bytes, 0u);  // `otherwise` is not counted.
  EXPECT_EQ(scripts["j"].calls.size(), 1u);
  Pass(absl::Milliseconds(900));
  EXPECT_EQ(scripts["j"].calls.size(), 1u);
  Pass(absl::Milliseconds(100));
  EXPECT_EQ(scripts["j"].calls.size(), 2u);
  Pass(absl::Seconds(8));
  EXPECT_EQ(scripts["j"].calls.size(), 10u);
}

TEST_F(SchedulerTest, AtTenChunksASecondEveryTenthOfASecondMovesOne) {
  scripts["j"].otherwise = kMore;
  ASSERT_TRUE(Launch({.id = "j", .speed = 10 << 20}).ok());
  Pass(absl::Milliseconds(950));
  EXPECT_EQ(scripts["j"].calls.size(), 10u);
}

TEST_F(SchedulerTest, SpeedOfOneCopiesOneChunkAndSitsUntilSetToZero) {
  scripts["j"].steps = {kMore, kMore, kMore, kDone};
  ASSERT_TRUE(Launch({.id = "j", .speed = 1}).ok());
  Pass(absl::Hours(1));
  EXPECT_EQ(scripts["j"].calls.size(), 1u);
  EXPECT_EQ(scripts["j"].budgets[0], 1u);
  EXPECT_EQ(scheduler.Find("j")->speed, 1u);
  EXPECT_FALSE(scheduler.Find("j")->busy);
  ASSERT_TRUE(scheduler.SetSpeed(VerbFamily::kBlockJob, "j", 0).ok());
  Settle();
  EXPECT_THAT(diary.Take(), HasSubstr("j COMPLETED, j concluded, j null"));
}

TEST_F(SchedulerTest, ALimitSetOnTheWayIsNotChargedForTheTimeBefore) {
  scripts["j"].otherwise = kMore;
  scripts["j"].during_step = [this] {
    if (scripts["j"].calls.size() == 20) {
      ASSERT_TRUE(scheduler.SetSpeed(VerbFamily::kJob, "j", 1 << 20).ok());
    }
  };
  ASSERT_TRUE(Launch({.id = "j"}).ok());
  Pass(absl::Seconds(5));
  EXPECT_GE(scripts["j"].calls.size(), 25u);
  EXPECT_LE(scripts["j"].calls.size(), 27u);
}

TEST_F(SchedulerTest, SpeedCanBeSetWhilePausedWithoutResuming) {
  ASSERT_TRUE(Launch({.id = "j", .speed = 1}).ok());
  ASSERT_TRUE(scheduler.Pause(VerbFamily::kJob, "j").ok());
  Settle();
  ASSERT_TRUE(scheduler.SetSpeed(VerbFamily::kJob, "j", 0).ok());
  Settle();
  EXPECT_EQ(StatusOf("j"), JobStatus::kPaused);
  EXPECT_EQ(ReasonOf(scheduler.SetSpeed(VerbFamily::kJob, "j", -5)), Reason::kInvalidField);
}

}  // namespace
}  // namespace tidemark::job
