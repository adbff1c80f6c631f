#include "engine/job/scheduler.h"

#include "engine/base/error.h"
#include "engine/job/limits.h"
#include "engine/job/scheduler_world.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark::job {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const StepResult kMore{.next = StepResult::Next::kAgain, .moved_bytes = 1 << 20};
const StepResult kDone{.next = StepResult::Next::kDone};

Reason ReasonOf(const absl::Status& status) {
  const auto details = DetailsOf(status);
  CHECK(details.has_value());
  return details->reason;
}

class SchedulerTest : public ::testing::Test, public SchedulerWorld {};

// ---- The order of events

TEST_F(SchedulerTest, SuccessIsHeardInOrder) {
  scripts["j"].steps = {kMore, kMore, kDone};
  ASSERT_TRUE(Launch({.id = "j"}).ok());
  Settle();
  EXPECT_EQ(diary.Take(),
            "j created, j running, j waiting, j pending, j COMPLETED, j concluded, j null");
  EXPECT_THAT(scripts["j"].calls, ElementsAre("step", "step", "step", "drain", "prepare", "commit",
                                              "clean", "destroyed"));
  EXPECT_TRUE(scheduler.QueryJobs().empty());
  EXPECT_EQ(diary.last["j"].progress.current_bytes, 2u << 20);
}

TEST_F(SchedulerTest, FailureIsHeardInOrderWhateverAutoFinalizeSays) {
  scripts["j"].steps = {kMore, absl::DataLossError("broken table")};
  ASSERT_TRUE(Launch({.id = "j", .auto_finalize = false}).ok());
  Settle();
  EXPECT_EQ(diary.Take(),
            "j created, j running, j aborting, j COMPLETED(broken table), j concluded, j null");
  EXPECT_THAT(scripts["j"].calls,
              ElementsAre("step", "step", "cancel", "drain", "abort", "clean", "destroyed"));
}

TEST_F(SchedulerTest, CancelIsHeardInOrder) {
  ASSERT_TRUE(Launch({.id = "j"}).ok());
  Settle();
  diary.Take();
  ASSERT_TRUE(scheduler.Cancel(VerbFamily::kBlockJob, "j", false).ok());
  Settle();
  EXPECT_EQ(diary.Take(), "j aborting, j CANCELLED, j concluded, j null");
}

TEST_F(SchedulerTest, ManualFinalizeWaitsInPending) {
  scripts["j"].steps = {kDone};
  ASSERT_TRUE(Launch({.id = "j", .auto_finalize = false, .auto_dismiss = false}).ok());
  Settle();
  EXPECT_EQ(diary.Take(), "j created, j running, j waiting, j pending, j PENDING");
  EXPECT_THAT(scripts["j"].calls, ElementsAre("step", "drain"));
  ASSERT_TRUE(scheduler.Finalize(VerbFamily::kJob, "j").ok());
  Settle();
  EXPECT_EQ(diary.Take(), "j COMPLETED, j concluded");
  EXPECT_EQ(StatusOf("j"), JobStatus::kConcluded);
  ASSERT_TRUE(scheduler.Dismiss(VerbFamily::kJob, "j").ok());
  EXPECT_EQ(diary.Take(), "j null");
  EXPECT_TRUE(scheduler.QueryJobs().empty());
}

TEST_F(SchedulerTest, AConcludedJobHoldsItsIdUntilDismissed) {
  scripts["j"].steps = {kDone};
  ASSERT_TRUE(Launch({.id = "j", .auto_dismiss = false}).ok());
  Settle();
  EXPECT_EQ(ReasonOf(scheduler.Validate({.id = "j"})), Reason::kJobExists);
  ASSERT_TRUE(scheduler.Dismiss(VerbFamily::kBlockJob, "j").ok());
  EXPECT_TRUE(scheduler.Validate({.id = "j"}).ok());
}

TEST_F(SchedulerTest, CancelInPendingAborts) {
  scripts["j"].steps = {kDone};
  ASSERT_TRUE(Launch({.id = "j", .auto_finalize = false, .auto_dismiss = false}).ok());
  Settle();
  diary.Take();
  ASSERT_TRUE(scheduler.Cancel(VerbFamily::kJob, "j", true).ok());
  Settle();
  EXPECT_EQ(diary.Take(), "j aborting, j CANCELLED, j concluded");
  EXPECT_EQ(scheduler.Find("j")->error.message(), "Operation canceled");
  EXPECT_THAT(scripts["j"].calls,
              ElementsAre("step", "drain", "cancel", "abort", "clean", "destroyed"));
}

TEST_F(SchedulerTest, PrepareThatFailsAborts) {
  scripts["j"].steps = {kDone};
  scripts["j"].prepare = absl::UnknownError("no way");
  ASSERT_TRUE(Launch({.id = "j"}).ok());
  Settle();
  EXPECT_EQ(diary.Take(),
            "j created, j running, j waiting, j pending, j aborting, j COMPLETED(no way), "
            "j concluded, j null");
}

TEST_F(SchedulerTest, CancelDuringPrepareAborts) {
  scripts["j"].steps = {kDone};
  ASSERT_TRUE(Launch({.id = "j"}).ok());
  while (engine.RunOne() || workers.RunOne()) {
  }
  ASSERT_EQ(StatusOf("j"), JobStatus::kPending);
  EXPECT_EQ(ReasonOf(scheduler.Finalize(VerbFamily::kJob, "j")), Reason::kJobState);
  ASSERT_TRUE(scheduler.Cancel(VerbFamily::kJob, "j", true).ok());
  Settle();
  EXPECT_THAT(diary.Take(), HasSubstr("j pending, j aborting, j CANCELLED, j concluded, j null"));
}

TEST_F(SchedulerTest, CancelDuringCommitIsRefused) {
  scripts["j"].steps = {kDone};
  ASSERT_TRUE(Launch({.id = "j"}).ok());
  while (engine.RunOne() || workers.RunOne()) {
  }
  graph_commands.RunOne();  // Prepare.
  engine.RunOne();          // Posts Commit.
  EXPECT_EQ(ReasonOf(scheduler.Cancel(VerbFamily::kJob, "j", true)), Reason::kJobState);
  Settle();
  EXPECT_THAT(diary.Take(), HasSubstr("j pending, j COMPLETED, j concluded, j null"));
}

TEST_F(SchedulerTest, ACreateJobHasNoBlockJobEvents) {
  scripts["c"].steps = {kDone};
  ASSERT_TRUE(Launch({.id = "c", .type = JobType::kCreate, .auto_dismiss = false}).ok());
  Settle();
  EXPECT_EQ(diary.Take(), "c created, c running, c waiting, c pending, c concluded");
  EXPECT_TRUE(scheduler.QueryBlockJobs().empty());
  EXPECT_EQ(scheduler.QueryJobs().size(), 1u);
  EXPECT_EQ(ReasonOf(scheduler.Dismiss(VerbFamily::kBlockJob, "c")), Reason::kBlockJobNotFound);
  EXPECT_TRUE(scheduler.Dismiss(VerbFamily::kJob, "c").ok());
}

TEST_F(SchedulerTest, AnUndoneCreationIsHeardWithoutBlockJobEvents) {
  ASSERT_TRUE(scheduler.Create({.id = "j"}, std::make_unique<ScriptedJob>(&scripts["j"])).ok());
  scheduler.Undo("j");
  Settle();
  EXPECT_EQ(diary.Take(), "j created, j aborting, j concluded, j null");
  EXPECT_THAT(scripts["j"].calls, ElementsAre("destroyed"));
}

// ---- The last step with the guests held

TEST_F(SchedulerTest, GuestsAreHeldFromTheLastStepUntilTheCommit) {
  scripts["j"].steps = {kDone};
  scripts["j"].holds_guests = true;
  ASSERT_TRUE(Launch({.id = "j"}).ok());
  Settle();
  EXPECT_THAT(scripts["j"].calls, ElementsAre("step", "drain", "hold", "last step", "prepare",
                                              "commit", "let go", "clean", "destroyed"));
  EXPECT_EQ(diary.Take(),
            "j created, j running, j waiting, j pending, j COMPLETED, j concluded, j null");
}

TEST_F(SchedulerTest, GuestsOfAllOfAGroupAreHeldBeforeTheFirstLastStep) {
  std::vector<std::string> order;
  const auto group = std::make_shared<JobGroup>();
  for (const std::string id : {"a", "b"}) {
    scripts[id].steps = {kDone};
    scripts[id].holds_guests = true;
    scripts[id].during_last_step = [this, id, &order] {
      order.push_back(id);
      EXPECT_THAT(scripts["b"].calls, ::testing::Contains("hold"));
      EXPECT_THAT(scripts["a"].calls, ::testing::Not(::testing::Contains("let go")));
    };
  }
  for (const std::string id : {"a", "b"}) {
    ASSERT_TRUE(
        scheduler.Create({.id = id}, std::make_unique<ScriptedJob>(&scripts[id]), group).ok());
  }
  for (const std::string id : {"a", "b"}) scheduler.Start(id);
  Settle();
  EXPECT_THAT(order, ElementsAre("a", "b"));
  for (const std::string id : {"a", "b"}) {
    EXPECT_THAT(scripts[id].calls, ::testing::IsSupersetOf({"commit", "let go"}));
  }
}

TEST_F(SchedulerTest, ALastStepThatFailsFailsTheJobAndLetsGuestsGoFirst) {
  scripts["j"].steps = {kDone};
  scripts["j"].holds_guests = true;
  scripts["j"].last_step = absl::UnknownError("cannot read");
  ASSERT_TRUE(Launch({.id = "j"}).ok());
  Settle();
  EXPECT_THAT(scripts["j"].calls, ElementsAre("step", "drain", "hold", "last step", "let go",
                                              "cancel", "abort", "clean", "destroyed"));
  EXPECT_THAT(diary.Take(), HasSubstr("j aborting, j COMPLETED(cannot read), j concluded"));
}

TEST_F(SchedulerTest, GuestsThatCannotBeHeldFailTheJob) {
  scripts["j"].steps = {kDone};
  scripts["j"].hold = absl::UnknownError("they do not stop");
  ASSERT_TRUE(Launch({.id = "j"}).ok());
  Settle();
  EXPECT_THAT(diary.Take(), HasSubstr("j aborting, j COMPLETED(they do not stop), j concluded"));
}

TEST_F(SchedulerTest, ALastStepThatTakesTooLongLetsGuestsGoWhileItIsStillAtWork) {
  scripts["j"].steps = {kDone};
  scripts["j"].holds_guests = true;
  scripts["j"].during_last_step = [this] {
    clock.Advance(kGuestHoldMax - absl::Milliseconds(1));
    while (engine.RunOne()) {
    }
    EXPECT_THAT(scripts["j"].calls, ::testing::Not(::testing::Contains("let go")));
    clock.Advance(absl::Milliseconds(1));
    while (engine.RunOne()) {
    }
    EXPECT_THAT(scripts["j"].calls,
                ElementsAre("step", "drain", "hold", "last step", "let go", "cancel"));
  };
  ASSERT_TRUE(Launch({.id = "j"}).ok());
  Settle();
  EXPECT_THAT(diary.Take(), HasSubstr("j aborting, j COMPLETED(the last step took more than 2s"));
  EXPECT_THAT(scripts["j"].calls, ::testing::Not(::testing::Contains("commit")));
  // It would count on guests that are held.
  EXPECT_THAT(scripts["j"].calls, ::testing::Not(::testing::Contains("prepare")));
}

TEST_F(SchedulerTest, ACancelDuringTheLastStepLetsGuestsGo) {
  scripts["j"].steps = {kDone};
  scripts["j"].holds_guests = true;
  scripts["j"].during_last_step = [this] {
    ASSERT_TRUE(scheduler.Cancel(VerbFamily::kJob, "j", true).ok());
  };
  ASSERT_TRUE(Launch({.id = "j"}).ok());
  Settle();
  EXPECT_THAT(diary.Take(), HasSubstr("j pending, j aborting, j CANCELLED, j concluded, j null"));
  EXPECT_THAT(scripts["j"].calls, ::testing::IsSupersetOf({"let go", "abort"}));
}

// ---- Ids, queries, refusals

TEST_F(SchedulerTest, IdsAreChecked) {
  for (const std::string& good :
       {std::string("j"), std::string("Job-1"), std::string("a.b_c"), std::string(300, 'x')}) {
    EXPECT_TRUE(scheduler.Validate({.id = good}).ok()) << good;
  }
  for (const std::string bad : {"", "1a", "-a", "a b", "a/b", "\xc3\xa4"}) {
    EXPECT_EQ(ReasonOf(scheduler.Validate({.id = bad})), Reason::kInvalidField) << bad;
  }
}

TEST_F(SchedulerTest, TheIdIsCheckedBeforeTheSpeed) {
  ASSERT_TRUE(Launch({.id = "j"}).ok());
  EXPECT_EQ(ReasonOf(Launch({.id = "j", .speed = -1})), Reason::kJobExists);
  const absl::Status status = Launch({.id = "k", .speed = -1});
  EXPECT_EQ(ReasonOf(status), Reason::kInvalidField);
  EXPECT_THAT(std::string(status.message()), HasSubstr("-1"));
}

TEST_F(SchedulerTest, QueriesAreNewestFirst) {
  ASSERT_TRUE(Launch({.id = "first"}).ok());
  ASSERT_TRUE(Launch({.id = "second", .type = JobType::kCreate}).ok());
  ASSERT_TRUE(Launch({.id = "third"}).ok());
  std::vector<std::string> ids;
  for (const JobSnapshot& job : scheduler.QueryJobs()) ids.push_back(job.id);
  EXPECT_THAT(ids, ElementsAre("third", "second", "first"));
  ids.clear();
  for (const JobSnapshot& job : scheduler.QueryBlockJobs()) ids.push_back(job.id);
  EXPECT_THAT(ids, ElementsAre("third", "first"));
}

TEST_F(SchedulerTest, UnknownJobsAreRefusedByFamily) {
  EXPECT_EQ(ReasonOf(scheduler.Pause(VerbFamily::kJob, "x")), Reason::kJobNotFound);
  EXPECT_EQ(ReasonOf(scheduler.Pause(VerbFamily::kBlockJob, "x")), Reason::kBlockJobNotFound);
  EXPECT_EQ(ReasonOf(scheduler.Cancel(VerbFamily::kBlockJob, "x", true)),
            Reason::kBlockJobNotFound);
  EXPECT_EQ(ReasonOf(scheduler.Change("x", JobType::kMirror, CopyMode::kWriteBlocking)),
            Reason::kBlockJobNotFound);
}

TEST_F(SchedulerTest, RefusedVerbsNameJobStateAndVerb) {
  ASSERT_TRUE(Launch({.id = "j"}).ok());
  Settle();
  const absl::Status status = scheduler.Complete(VerbFamily::kJob, "j");
  EXPECT_EQ(ReasonOf(status), Reason::kJobState);
  EXPECT_EQ(status.message(), "job 'j' in state 'running' cannot accept command verb 'complete'");
  EXPECT_EQ(ReasonOf(scheduler.Finalize(VerbFamily::kJob, "j")), Reason::kJobState);
  EXPECT_EQ(ReasonOf(scheduler.Dismiss(VerbFamily::kJob, "j")), Reason::kJobState);
}

TEST_F(SchedulerTest, TheNumberOfJobsIsBounded) {
  for (size_t i = 0; i < kJobsMax; ++i) ASSERT_TRUE(Launch({.id = absl::StrCat("j", i)}).ok());
  EXPECT_EQ(ReasonOf(Launch({.id = "more"})), Reason::kLimitReached);
}

TEST_F(SchedulerTest, BackupsCannotBeChanged) {
  ASSERT_TRUE(Launch({.id = "b"}).ok());
  EXPECT_EQ(ReasonOf(scheduler.Change("b", JobType::kMirror, CopyMode::kWriteBlocking)),
            Reason::kFeatureUnsupported);
  EXPECT_EQ(ReasonOf(scheduler.Change("b", JobType::kBackup, CopyMode::kWriteBlocking)),
            Reason::kFeatureUnsupported);
}

// ---- Pause and resume

TEST_F(SchedulerTest, PauseDrainsAndResumeGoesOn) {
  ASSERT_TRUE(Launch({.id = "j"}).ok());
  Settle();
  diary.Take();
  scripts["j"].calls.clear();
  ASSERT_TRUE(scheduler.Pause(VerbFamily::kJob, "j").ok());
  EXPECT_TRUE(scheduler.Find("j")->paused);
  Settle();
  EXPECT_EQ(diary.Take(), "j paused");
  EXPECT_THAT(scripts["j"].calls, ElementsAre("drain"));
  EXPECT_EQ(ReasonOf(scheduler.Pause(VerbFamily::kBlockJob, "j")), Reason::kJobState);
  scripts["j"].steps = {kDone};
  ASSERT_TRUE(scheduler.Resume(VerbFamily::kBlockJob, "j").ok());
  Settle();
  EXPECT_EQ(diary.Take(), "j running, j waiting, j pending, j COMPLETED, j concluded, j null");
}

TEST_F(SchedulerTest, PauseWhileAStepIsAtWorkWaitsForIt) {
  scripts["j"].otherwise = kMore;
  scripts["j"].during_step = [this] {
    if (scripts["j"].calls.size() == 3) {
      ASSERT_TRUE(scheduler.Pause(VerbFamily::kJob, "j").ok());
      EXPECT_EQ(StatusOf("j"), JobStatus::kRunning);
    }
  };
  ASSERT_TRUE(Launch({.id = "j"}).ok());
  Settle();
  EXPECT_EQ(StatusOf("j"), JobStatus::kPaused);
  EXPECT_THAT(scripts["j"].calls, ElementsAre("step", "step", "step", "drain"));
}

TEST_F(SchedulerTest, ResumeOfAJobThatWasNotPausedIsRefusedBeforeItsStateIsAsked) {
  scripts["j"].steps = {kDone};
  ASSERT_TRUE(Launch({.id = "j", .auto_finalize = false}).ok());
  Settle();
  EXPECT_EQ(ReasonOf(scheduler.Resume(VerbFamily::kJob, "j")), Reason::kJobState);
  EXPECT_EQ(ReasonOf(scheduler.Pause(VerbFamily::kJob, "j")), Reason::kJobState);
}

TEST_F(SchedulerTest, SoftCancelOfAPausedJobIsRefusedAndForceIsNot) {
  ASSERT_TRUE(Launch({.id = "j"}).ok());
  ASSERT_TRUE(scheduler.Pause(VerbFamily::kJob, "j").ok());
  Settle();
  diary.Take();
  EXPECT_EQ(ReasonOf(scheduler.Cancel(VerbFamily::kBlockJob, "j", false)), Reason::kJobState);
  ASSERT_TRUE(scheduler.Cancel(VerbFamily::kBlockJob, "j", true).ok());
  Settle();
  EXPECT_EQ(diary.Take(), "j running, j aborting, j CANCELLED, j concluded, j null");
}

TEST_F(SchedulerTest, APausedJobThatIsCancelledIsDrainedAgainAfterItWasTold) {
  ASSERT_TRUE(Launch({.id = "j"}).ok());
  ASSERT_TRUE(scheduler.Pause(VerbFamily::kJob, "j").ok());
  Settle();
  scripts["j"].calls.clear();
  ASSERT_TRUE(scheduler.Cancel(VerbFamily::kJob, "j", true).ok());
  Settle();
  EXPECT_THAT(scripts["j"].calls, ElementsAre("cancel", "drain", "abort", "clean", "destroyed"));
}

TEST_F(SchedulerTest, AJobThatIsCancelledWhileItIsDrainedIsDrainedAgain) {
  ASSERT_TRUE(Launch({.id = "j"}).ok());
  Settle();
  scripts["j"].calls.clear();
  ASSERT_TRUE(scheduler.Pause(VerbFamily::kJob, "j").ok());
  ASSERT_TRUE(workers.RunOne());
  ASSERT_TRUE(scheduler.Cancel(VerbFamily::kJob, "j", true).ok());
  Settle();
  EXPECT_THAT(scripts["j"].calls,
              ElementsAre("drain", "cancel", "drain", "abort", "clean", "destroyed"));
}

TEST_F(SchedulerTest, AJobThatHasNotDrainedIsAskedAgainSoonOrWhenItWakes) {
  ASSERT_TRUE(Launch({.id = "j"}).ok());
  Settle();
  scripts["j"].calls.clear();
  scripts["j"].drains = 2;
  ASSERT_TRUE(scheduler.Pause(VerbFamily::kJob, "j").ok());
  Settle();
  EXPECT_THAT(scripts["j"].calls, ElementsAre("drain"));
  EXPECT_EQ(StatusOf("j"), JobStatus::kRunning);
  Pass(kDrainInterval);
  EXPECT_THAT(scripts["j"].calls, ElementsAre("drain", "drain"));
  scripts["j"].waker();
  Settle();
  EXPECT_THAT(scripts["j"].calls, ElementsAre("drain", "drain", "drain"));
  EXPECT_EQ(StatusOf("j"), JobStatus::kPaused);
}

TEST_F(SchedulerTest, AJobThatHangsIsNotEndedBeforeItHasDrained) {
  ASSERT_TRUE(Launch({.id = "j"}).ok());
  Settle();
  scripts["j"].calls.clear();
  scripts["j"].drains = 1000;
  ASSERT_TRUE(scheduler.Cancel(VerbFamily::kJob, "j", true).ok());
  Pass(absl::Seconds(1));
  EXPECT_EQ(StatusOf("j"), JobStatus::kRunning);
  EXPECT_LE(scripts["j"].calls.size(), 2 + absl::Seconds(1) / kDrainInterval);
  scripts["j"].drains = 0;
  Pass(kDrainInterval);
  EXPECT_THAT(diary.Take(), HasSubstr("j aborting, j CANCELLED, j concluded, j null"));
}

TEST_F(SchedulerTest, JobCancelIsAlwaysByForce) {
  ASSERT_TRUE(Launch({.id = "j"}).ok());
  ASSERT_TRUE(scheduler.Pause(VerbFamily::kJob, "j").ok());
  Settle();
  EXPECT_TRUE(scheduler.Cancel(VerbFamily::kJob, "j", false).ok());
}

// ---- Waiting, progress, shutdown

TEST_F(SchedulerTest, AJobThatWaitsIsSteppedWhenItWakes) {
  ASSERT_TRUE(Launch({.id = "j"}).ok());
  Pass(absl::Hours(1));
  EXPECT_EQ(scripts["j"].calls.size(), 1u);
  scripts["j"].waker();
  scripts["j"].waker();
  Settle();
  EXPECT_EQ(scripts["j"].calls.size(), 2u);
}

TEST_F(SchedulerTest, AWakeDuringAStepIsNotLost) {
  scripts["j"].during_step = [this] {
    if (scripts["j"].calls.size() == 1) scripts["j"].waker();
  };
  ASSERT_TRUE(Launch({.id = "j"}).ok());
  Settle();
  EXPECT_EQ(scripts["j"].calls.size(), 2u);
}

TEST_F(SchedulerTest, AWakerThatOutlivesItsJobDoesNothing) {
  scripts["j"].steps = {kDone};
  ASSERT_TRUE(Launch({.id = "j"}).ok());
  Settle();
  scripts["j"].waker();
  Settle();
  EXPECT_TRUE(scheduler.QueryJobs().empty());
}

TEST_F(SchedulerTest, ProgressIsReportedAtMostTenTimesASecond) {
  StepResult slow = kMore;
  slow.next = StepResult::Next::kWait;
  slow.delay = absl::Milliseconds(1);
  for (int i = 0; i < 5000; ++i) scripts["j"].steps.push_back(slow);
  ASSERT_TRUE(Launch({.id = "j"}).ok());
  Pass(absl::Seconds(4));
  EXPECT_GE(diary.progress_reports, 38);
  EXPECT_LE(diary.progress_reports, 41);
}

TEST_F(SchedulerTest, CancelAllEndsEverythingAndRefusesMore) {
  scripts["pending"].steps = {kDone};
  ASSERT_TRUE(Launch({.id = "running"}).ok());
  ASSERT_TRUE(Launch({.id = "pending", .auto_finalize = false}).ok());
  ASSERT_TRUE(Launch({.id = "paused"}).ok());
  ASSERT_TRUE(scheduler.Pause(VerbFamily::kJob, "paused").ok());
  Settle();
  diary.Take();
  bool done = false;
  scheduler.CancelAll([&done] { done = true; });
  EXPECT_FALSE(done);
  EXPECT_EQ(ReasonOf(Launch({.id = "late"})), Reason::kShuttingDown);
  Settle();
  EXPECT_TRUE(done);
  EXPECT_TRUE(scheduler.QueryJobs().empty());
  for (const std::string id : {"running", "pending", "paused"}) {
    EXPECT_EQ(diary.last[id].error.message(), "Operation canceled") << id;
  }
}

TEST_F(SchedulerTest, CancelAllWithNothingToDoIsDoneAtOnce) {
  bool done = false;
  scheduler.CancelAll([&done] { done = true; });
  Settle();
  EXPECT_TRUE(done);
}

}  // namespace
}  // namespace tidemark::job
