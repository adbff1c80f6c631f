// Jobs that end together.
#include "engine/job/job_group.h"

#include "engine/base/error.h"
#include "engine/job/scheduler_world.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark::job {
namespace {

using ::testing::Contains;
using ::testing::Not;

const StepResult kDone{.next = StepResult::Next::kDone};

class JobGroupTest : public ::testing::Test, public SchedulerWorld {
 protected:
  void RunGroup(std::vector<JobOptions> members) {
    auto group = std::make_shared<JobGroup>();
    for (const JobOptions& member : members) {
      ASSERT_TRUE(
          scheduler.Create(member, std::make_unique<ScriptedJob>(&scripts[member.id]), group).ok());
    }
    for (const JobOptions& member : members) scheduler.Start(member.id);
    Settle();
    diary.Take();
  }

  void LetEnd(const std::string& id) {
    scripts[id].steps = {kDone};
    scripts[id].waker();
    Settle();
  }
  void LetFail(const std::string& id) {
    scripts[id].steps = {absl::UnknownError("Input/output error")};
    scripts[id].waker();
    Settle();
  }
};

TEST_F(JobGroupTest, EarlyFinishersWaitForTheLast) {
  RunGroup({{.id = "a"}, {.id = "b"}});
  LetEnd("b");
  EXPECT_EQ(diary.Take(), "b waiting");
  EXPECT_THAT(scripts["b"].calls, Not(Contains("commit")));
  LetEnd("a");
  EXPECT_EQ(diary.Take(),
            "a waiting, a pending, b pending, a COMPLETED, a concluded, a null, b COMPLETED, "
            "b concluded, b null");
}

TEST_F(JobGroupTest, AllAreCommittedBeforeAnyIsHeardOf) {
  RunGroup({{.id = "a"}, {.id = "b"}});
  LetEnd("a");
  LetEnd("b");
  for (const std::string id : {"a", "b"}) {
    EXPECT_THAT(scripts[id].calls, Contains("commit"));
    EXPECT_THAT(scripts[id].calls, Not(Contains("abort")));
  }
}

TEST_F(JobGroupTest, OneFailureCancelsTheOthersWhereverTheyAre) {
  RunGroup({{.id = "runs"}, {.id = "waits"}, {.id = "fails"}, {.id = "paused"}});
  LetEnd("waits");
  ASSERT_TRUE(scheduler.Pause(VerbFamily::kJob, "paused").ok());
  Settle();
  diary.Take();
  LetFail("fails");
  EXPECT_EQ(diary.Take(),
            "fails aborting, fails COMPLETED(Input/output error), fails concluded, fails null, "
            "runs aborting, runs CANCELLED, runs concluded, runs null, "
            "waits aborting, waits CANCELLED, waits concluded, waits null, "
            "paused running, paused aborting, paused CANCELLED, paused concluded, paused null");
  for (const std::string id : {"runs", "waits", "fails", "paused"}) {
    EXPECT_THAT(scripts[id].calls, Contains("abort")) << id;
    EXPECT_THAT(scripts[id].calls, Contains("clean")) << id;
    EXPECT_THAT(scripts[id].calls, Not(Contains("commit"))) << id;
  }
}

TEST_F(JobGroupTest, TheOthersOfAFailureSayThatTheyWereCancelled) {
  RunGroup({{.id = "a", .auto_dismiss = false}, {.id = "b", .auto_dismiss = false}});
  LetFail("a");
  EXPECT_EQ(scheduler.Find("a")->error.message(), "Input/output error");
  EXPECT_EQ(scheduler.Find("b")->error.message(), "Operation canceled");
}

TEST_F(JobGroupTest, CancellingAnyMemberCancelsAll) {
  for (const std::string chosen : {"runs", "waits"}) {
    RunGroup({{.id = "runs"}, {.id = "waits"}});
    LetEnd("waits");
    diary.Take();
    ASSERT_TRUE(scheduler.Cancel(VerbFamily::kBlockJob, chosen, false).ok());
    Settle();
    const std::string other = chosen == "runs" ? "waits" : "runs";
    std::string expected;
    for (const std::string& id : {chosen, other}) {
      absl::StrAppend(&expected, expected.empty() ? "" : ", ", id, " aborting, ", id,
                      " CANCELLED, ", id, " concluded, ", id, " null");
    }
    EXPECT_EQ(diary.Take(), expected);
  }
}

TEST_F(JobGroupTest, OneManualMemberKeepsAllPendingAndFinalizingAnyFinalizesAll) {
  RunGroup({{.id = "auto"}, {.id = "manual", .auto_finalize = false}});
  LetEnd("auto");
  LetEnd("manual");
  EXPECT_EQ(diary.Take(),
            "auto waiting, manual waiting, auto pending, manual pending, manual PENDING");
  ASSERT_TRUE(scheduler.Finalize(VerbFamily::kJob, "auto").ok());
  Settle();
  EXPECT_EQ(diary.Take(),
            "auto COMPLETED, auto concluded, auto null, manual COMPLETED, manual concluded, "
            "manual null");
  EXPECT_EQ(DetailsOf(scheduler.Finalize(VerbFamily::kJob, "manual"))->reason,
            Reason::kJobNotFound);
}

TEST_F(JobGroupTest, CancellingAPendingMemberCancelsAll) {
  RunGroup({{.id = "a", .auto_finalize = false}, {.id = "b", .auto_finalize = false}});
  LetEnd("a");
  LetEnd("b");
  diary.Take();
  ASSERT_TRUE(scheduler.Cancel(VerbFamily::kJob, "b", false).ok());
  Settle();
  EXPECT_EQ(diary.Take(),
            "b aborting, b CANCELLED, b concluded, b null, a aborting, a CANCELLED, a concluded, "
            "a null");
}

TEST_F(JobGroupTest, APrepareThatFailsAbortsAllAndCommitsNone) {
  RunGroup({{.id = "a"}, {.id = "b"}});
  scripts["b"].prepare = absl::UnknownError("no way");
  LetEnd("a");
  LetEnd("b");
  EXPECT_EQ(diary.Take(),
            "a waiting, b waiting, a pending, b pending, "
            "b aborting, b COMPLETED(no way), b concluded, b null, "
            "a aborting, a CANCELLED, a concluded, a null");
  EXPECT_THAT(scripts["a"].calls, Not(Contains("commit")));
}

TEST_F(JobGroupTest, AFailureWhileAnotherFailsIsNotHeardTwice) {
  RunGroup({{.id = "a"}, {.id = "b"}});
  scripts["a"].steps = {absl::UnknownError("first")};
  scripts["b"].steps = {absl::UnknownError("second")};
  scripts["a"].waker();
  scripts["b"].waker();
  Settle();
  EXPECT_EQ(diary.Take(),
            "a aborting, a COMPLETED(first), a concluded, a null, b aborting, b CANCELLED, "
            "b concluded, b null");
}

TEST_F(JobGroupTest, JobsOfDifferentGroupsEndAlone) {
  ASSERT_TRUE(Launch({.id = "a"}).ok());
  ASSERT_TRUE(Launch({.id = "b"}).ok());
  Settle();
  diary.Take();
  LetFail("a");
  EXPECT_EQ(diary.Take(), "a aborting, a COMPLETED(Input/output error), a concluded, a null");
  EXPECT_EQ(StatusOf("b"), JobStatus::kRunning);
}

TEST_F(JobGroupTest, AMemberCancelledBeforeItStartedTakesTheOthersWithIt) {
  auto group = std::make_shared<JobGroup>();
  for (const std::string id : {"a", "b"}) {
    ASSERT_TRUE(
        scheduler.Create({.id = id}, std::make_unique<ScriptedJob>(&scripts[id]), group).ok());
  }
  ASSERT_TRUE(scheduler.Cancel(VerbFamily::kJob, "a", true).ok());
  scheduler.Start("a");
  scheduler.Start("b");
  Settle();
  EXPECT_TRUE(scheduler.QueryJobs().empty());
  EXPECT_THAT(scripts["a"].calls, Not(Contains("step")));
  EXPECT_THAT(scripts["b"].calls, Not(Contains("step")));
}

}  // namespace
}  // namespace tidemark::job
