#include "adapters/qmp/job_keeper.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "adapters/qmp/testing/memory_store.h"
#include "adapters/qmp/testing/queue_executor.h"
#include "google/protobuf/text_format.h"

namespace tidemark::qmp {
namespace {

namespace v1 = ::tidemark::block::v1;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class KeeperTest : public ::testing::Test {
 protected:
  KeeperTest() { Restart({}); }

  // As a new process does; the log lives on.
  void Restart(const std::vector<v1::Job>& stored) {
    JobKeeper::Hooks hooks;
    hooks.dismiss = [this](const std::string& id, JobKeeper::Generation) {
      dismissed_.push_back(id);
    };
    hooks.gone = [this](const std::string& id) { gone_.push_back(id); };
    hooks.alive = [] {};
    keeper_ = std::make_shared<JobKeeper>("vm", log_, book_, &store_, executor_, clock_, hooks);
    keeper_->Restore(stored);
  }

  static v1::Job Backup(const std::string& id, bool auto_dismiss = true) {
    v1::Job job;
    job.set_instance("vm");
    job.set_id(id);
    job.set_type(v1::JOB_TYPE_BACKUP);
    job.add_node_names("disk0");
    job.set_auto_finalize(true);
    job.set_auto_dismiss(auto_dismiss);
    return job;
  }

  void Event(const std::string& text) {
    backend::Event event;
    ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &event)) << text;
    keeper_->OnEvent(event);
  }
  void Status(const std::string& id, const std::string& status) {
    Event(absl::StrCat("job_status_change { id: '", id, "' status: JOB_STATUS_", status, " }"));
  }

  // The way of a request: Store, Intend, and Settle with what Intend returns. Store may be left
  // out.
  absl::Status Store(const std::vector<v1::Job>& jobs) {
    intent_ = keeper_->NewIntent();
    return keeper_->Store(intent_, jobs);
  }
  JobKeeper::Intent Intend(const std::vector<v1::Job>& jobs) {
    const JobKeeper::Intent intent = intent_ == 0 ? keeper_->NewIntent() : intent_;
    intent_ = 0;
    keeper_->Intend(intent, jobs);
    return intent;
  }

  static v1::QueryJobsResponse Jobs(const std::string& text) {
    v1::QueryJobsResponse jobs;
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &jobs)) << text;
    return jobs;
  }
  static v1::QueryBlockJobsResponse BlockJobs(const std::string& text) {
    v1::QueryBlockJobsResponse jobs;
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &jobs)) << text;
    return jobs;
  }

  // All that was told, one word each: "running", "*" for recovered, "~" for spontaneous.
  std::vector<std::string> Story() {
    executor_.RunAll();
    std::vector<std::string> story;
    const auto events = log_.Read(0);
    for (const auto& event : *events) {
      std::string word = event->recovered() ? "*" : "";
      switch (event->payload_case()) {
        case v1::Event::kJobStatusChange:
          if (event->job_status_change().spontaneous()) word += "~";
          word += v1::JobStatus_Name(event->job_status_change().status())
                      .substr(std::string("JOB_STATUS_").size());
          break;
        case v1::Event::kBlockJobCompleted:
          word += event->block_job_completed().error().empty() ? "completed" : "failed";
          break;
        case v1::Event::kBlockJobCancelled:
          word += "cancelled";
          break;
        case v1::Event::kBlockJobReady:
          word += "ready";
          break;
        case v1::Event::kBlockJobPending:
          word += "pending";
          break;
        default:
          continue;
      }
      story.push_back(word);
    }
    return story;
  }
  v1::Job Known(const std::string& id) {
    const auto entry = book_.Find("vm", id);
    return entry.ok() ? entry->view.job() : v1::Job();
  }

  QueueExecutor executor_;
  ManualClock clock_;
  backend::EventLog log_{clock_, executor_};
  backend::JobBook book_{log_};
  MemoryStore store_;
  std::shared_ptr<JobKeeper> keeper_;
  // Of what is stored and not intended.
  JobKeeper::Intent intent_ = 0;
  std::vector<std::string> dismissed_;
  std::vector<std::string> gone_;
};

TEST_F(KeeperTest, AddsWhatTheStarterAskedFor) {
  const auto intent = Intend({Backup("full", /*auto_dismiss=*/false)});
  Status("full", "CREATED");
  Status("full", "RUNNING");
  keeper_->Settle(intent, {Backup("full", false)}, /*may_begin=*/false);
  executor_.RunAll();
  EXPECT_EQ(Known("full").type(), v1::JOB_TYPE_BACKUP);
  EXPECT_THAT(Known("full").node_names(), ElementsAre("disk0"));
  EXPECT_FALSE(Known("full").auto_dismiss());
  EXPECT_EQ(Known("full").status(), v1::JOB_STATUS_RUNNING);
}

TEST_F(KeeperTest, DismissesAJobOfASelfDismissingStarterOnceItsEndIsSaved) {
  Intend({Backup("full")});
  Status("full", "CREATED");
  Event("block_job_completed { device: 'full' type: JOB_TYPE_BACKUP len: 9 offset: 9 }");
  Status("full", "CONCLUDED");
  EXPECT_THAT(dismissed_, IsEmpty());
  EXPECT_TRUE(keeper_->IsLeaving("full"));
  executor_.RunAll();
  EXPECT_THAT(dismissed_, ElementsAre("full"));
  Status("full", "NULL");
  EXPECT_THAT(gone_, ElementsAre("full"));
  EXPECT_FALSE(keeper_->IsLeaving("full"));
  EXPECT_EQ(Known("full").outcome(), v1::JOB_OUTCOME_SUCCEEDED);
}

TEST_F(KeeperTest, LeavesAJobToItsStarterWhoWantsToDismissIt) {
  Intend({Backup("full", /*auto_dismiss=*/false)});
  Status("full", "CREATED");
  Status("full", "CONCLUDED");
  executor_.RunAll();
  EXPECT_THAT(dismissed_, IsEmpty());
  EXPECT_FALSE(keeper_->IsLeaving("full"));
}

TEST_F(KeeperTest, NeverTouchesJobsOfOtherClients) {
  Status("theirs", "CREATED");
  Status("theirs", "CONCLUDED");
  executor_.RunAll();
  EXPECT_THAT(dismissed_, IsEmpty());
}

TEST_F(KeeperTest, HidesFromQueriesThatItHoldsAResult) {
  Intend({Backup("ours")});
  Status("ours", "CREATED");
  Status("ours", "RUNNING");
  auto block_jobs = BlockJobs(
      "jobs { device: 'ours' status: JOB_STATUS_RUNNING }"
      "jobs { device: 'theirs' status: JOB_STATUS_CONCLUDED }");
  keeper_->Hide(&block_jobs);
  EXPECT_TRUE(block_jobs.jobs(0).auto_dismiss());
  EXPECT_FALSE(block_jobs.jobs(1).auto_dismiss());
  auto jobs = Jobs("jobs { id: 'ours' status: JOB_STATUS_CONCLUDED }");
  keeper_->Hide(&jobs);
  EXPECT_EQ(jobs.jobs_size(), 0);
}

TEST_F(KeeperTest, MarksPausesThatNobodyAskedFor) {
  Intend({Backup("full")});
  Status("full", "CREATED");
  Status("full", "RUNNING");
  Status("full", "PAUSED");
  Status("full", "RUNNING");
  keeper_->SetPauseWanted("full", true);
  Status("full", "PAUSED");
  Status("full", "RUNNING");
  keeper_->SetPauseWanted("full", false);
  Event("block_job_error { device: 'full' action: BLOCK_ERROR_ACTION_STOP }");
  Status("full", "PAUSED");
  EXPECT_THAT(Story(), ElementsAre("CREATED", "RUNNING", "~PAUSED", "~RUNNING", "PAUSED", "RUNNING",
                                   "PAUSED"));
}

TEST_F(KeeperTest, ForgetsWhatWasRefused) {
  ASSERT_TRUE(Store({Backup("full")}).ok());
  const auto intent = Intend({Backup("full")});
  keeper_->Settle(intent, {Backup("full")}, /*may_begin=*/false);
  executor_.RunAll();
  EXPECT_THAT(store_.jobs, IsEmpty());
  Status("full", "CREATED");  // Somebody else's.
  Status("full", "CONCLUDED");
  executor_.RunAll();
  EXPECT_THAT(dismissed_, IsEmpty());
}

TEST_F(KeeperTest, KeepsTheStoredJobWhenASecondOneOfItsNameIsRefused) {
  ASSERT_TRUE(Store({Backup("full")}).ok());
  keeper_->Settle(Intend({Backup("other")}), {Backup("other")}, false);
  const auto intent = Intend({Backup("full")});
  Status("full", "CREATED");
  keeper_->Settle(intent, {Backup("full")}, false);
  ASSERT_TRUE(Store({Backup("full", /*auto_dismiss=*/false)}).ok());
  const auto second = Intend({Backup("full", false)});
  keeper_->Settle(second, {Backup("full", false)}, false);
  executor_.RunAll();
  ASSERT_EQ(store_.jobs.size(), 1u);
  EXPECT_TRUE(store_.jobs.begin()->second.auto_dismiss());
}

TEST_F(KeeperTest, AsksHowAJobEndedIfNoEventToldIt) {
  backend::Event concluded;
  concluded.mutable_job_status_change()->set_id("create");
  concluded.mutable_job_status_change()->set_status(v1::JOB_STATUS_CONCLUDED);
  Status("create", "CREATED");
  EXPECT_TRUE(keeper_->NeedsResult(concluded));
  Status("create", "ABORTING");
  keeper_->SetResult(
      Jobs("jobs { id: 'create' type: JOB_TYPE_CREATE error: 'No space left on device' }"),
      "create");
  Status("create", "CONCLUDED");
  executor_.RunAll();
  EXPECT_EQ(Known("create").outcome(), v1::JOB_OUTCOME_FAILED);
  EXPECT_EQ(Known("create").error(), "No space left on device");
  EXPECT_EQ(Known("create").error_reason(), v1::ERROR_REASON_NO_SPACE);
}

TEST_F(KeeperTest, TellsAfterABreakHowAJobEnded) {
  Intend({Backup("full")});
  Status("full", "CREATED");
  Status("full", "RUNNING");
  keeper_->Reconcile(Jobs("jobs { id: 'full' type: JOB_TYPE_BACKUP status: JOB_STATUS_CONCLUDED"
                          " error: 'Input/output error' }"),
                     BlockJobs("jobs { device: 'full' status: JOB_STATUS_CONCLUDED }"), true);
  EXPECT_THAT(Story(), ElementsAre("CREATED", "RUNNING", "*ABORTING", "*failed", "*CONCLUDED"));
  EXPECT_THAT(dismissed_, ElementsAre("full"));
  EXPECT_EQ(Known("full").error_reason(), v1::ERROR_REASON_IO_ERROR);
}

TEST_F(KeeperTest, TellsAfterABreakThatAJobIsReady) {
  v1::Job mirror = Backup("mirror");
  mirror.set_type(v1::JOB_TYPE_MIRROR);
  Intend({mirror});
  Status("mirror", "CREATED");
  Status("mirror", "RUNNING");
  const auto jobs = Jobs("jobs { id: 'mirror' type: JOB_TYPE_MIRROR status: JOB_STATUS_READY }");
  const auto block_jobs = BlockJobs("jobs { device: 'mirror' status: JOB_STATUS_READY }");
  keeper_->Reconcile(jobs, block_jobs, true);
  keeper_->Reconcile(jobs, block_jobs, true);
  EXPECT_THAT(Story(), ElementsAre("CREATED", "RUNNING", "*READY", "*ready"));
}

TEST_F(KeeperTest, TellsAfterABreakThatAJobIsReadyEvenIfOnlyItsStateWasTold) {
  v1::Job mirror = Backup("mirror");
  mirror.set_type(v1::JOB_TYPE_MIRROR);
  Intend({mirror});
  Status("mirror", "CREATED");
  Status("mirror", "READY");
  keeper_->Reconcile(Jobs("jobs { id: 'mirror' type: JOB_TYPE_MIRROR status: JOB_STATUS_READY }"),
                     BlockJobs("jobs { device: 'mirror' status: JOB_STATUS_READY }"), true);
  EXPECT_THAT(Story(), ElementsAre("CREATED", "READY", "*ready"));
}

TEST_F(KeeperTest, TellsTheErrorThatWasNotTold) {
  Status("create", "CREATED");
  Status("create", "ABORTING");
  Status("create", "CONCLUDED");
  keeper_->Reconcile(Jobs("jobs { id: 'create' type: JOB_TYPE_CREATE status: JOB_STATUS_CONCLUDED"
                          " error: 'No space left on device' }"),
                     {}, true);
  log_.Flush();
  EXPECT_EQ(Known("create").error(), "No space left on device");
}

TEST_F(KeeperTest, DoesNotTakeAJobOfAnotherClientForItsOwn) {
  const auto intent = Intend({Backup("full")});
  Status("full", "CREATED");  // Theirs was faster; ours is refused.
  keeper_->Settle(intent, {Backup("full")}, /*may_begin=*/false);
  Status("full", "CONCLUDED");
  executor_.RunAll();
  EXPECT_THAT(dismissed_, IsEmpty());
}

TEST_F(KeeperTest, TellsAJobThatLivesFromAnEndedOneOfItsName) {
  Intend({Backup("full")});
  Status("full", "CREATED");
  Event("block_job_completed { device: 'full' type: JOB_TYPE_BACKUP }");
  Status("full", "CONCLUDED");
  keeper_->Reconcile(Jobs("jobs { id: 'full' type: JOB_TYPE_BACKUP status: JOB_STATUS_RUNNING }"),
                     BlockJobs("jobs { device: 'full' status: JOB_STATUS_RUNNING }"), true);
  EXPECT_FALSE(keeper_->IsLeaving("full"));
  EXPECT_THAT(Story(),
              ElementsAre("CREATED", "completed", "CONCLUDED", "*NULL", "*CREATED", "*RUNNING"));
}

TEST_F(KeeperTest, KeepsWhatIsAboutToBeSentWhenTheJobBeforeItGoes) {
  Intend({Backup("full")});
  Status("full", "CREATED");
  Status("full", "CONCLUDED");
  executor_.RunAll();
  ASSERT_TRUE(Store({Backup("full")}).ok());
  EXPECT_THAT(store_.jobs, IsEmpty()) << "the id is taken";
  EXPECT_TRUE(keeper_->IsStored(intent_, {Backup("full")}));
  Status("full", "NULL");
  EXPECT_FALSE(keeper_->IsStored(intent_, {Backup("full")}));
  ASSERT_TRUE(Store({Backup("full")}).ok());
  executor_.RunAll();  // What the end of the first one posted.
  EXPECT_TRUE(keeper_->IsStored(intent_, {Backup("full")}));
  EXPECT_EQ(store_.jobs.size(), 1u);
  keeper_->Discard(intent_ + 1, {Backup("full")});  // Another's.
  executor_.RunAll();
  EXPECT_EQ(store_.jobs.size(), 1u);
  keeper_->Discard(intent_, {Backup("full")});
  executor_.RunAll();
  EXPECT_THAT(store_.jobs, IsEmpty());
}

TEST_F(KeeperTest, NeverStoresJobsOfOtherClients) {
  const auto intent = Intend({Backup("full")});
  Status("full", "CREATED");  // Theirs was faster; ours is refused.
  keeper_->Settle(intent, {Backup("full")}, /*may_begin=*/false);
  executor_.RunAll();
  EXPECT_THAT(store_.jobs, IsEmpty());
}

TEST_F(KeeperTest, FindsAfterARestartTheJobsOfOtherClientsToo) {
  Status("gone", "CREATED");
  Status("gone", "RUNNING");
  Status("waits", "CREATED");
  Status("waits", "CONCLUDED");
  Restart({});
  keeper_->Reconcile(
      Jobs("jobs { id: 'waits' type: JOB_TYPE_CREATE status: JOB_STATUS_CONCLUDED }"), {}, true);
  EXPECT_THAT(Story(), ElementsAre("CREATED", "RUNNING", "CREATED", "CONCLUDED", "*NULL"));
  EXPECT_EQ(Known("gone").outcome(), v1::JOB_OUTCOME_FAILED);
  EXPECT_EQ(Known("waits").outcome(), v1::JOB_OUTCOME_SUCCEEDED);
  EXPECT_THAT(dismissed_, IsEmpty());
}

TEST_F(KeeperTest, DoesNotTakeAJobThatGoesByItselfForOneItStored) {
  ASSERT_TRUE(Store({Backup("full")}).ok());
  Restart(*store_.LoadJobs("vm"));
  keeper_->Reconcile(
      Jobs("jobs { id: 'full' type: JOB_TYPE_BACKUP status: JOB_STATUS_RUNNING }"),
      BlockJobs("jobs { device: 'full' status: JOB_STATUS_RUNNING auto_dismiss: true }"), true);
  EXPECT_THAT(Story(), ElementsAre("*CREATED", "*NULL", "*CREATED", "*RUNNING"));
  Status("full", "CONCLUDED");
  executor_.RunAll();
  EXPECT_THAT(dismissed_, IsEmpty());
}

TEST_F(KeeperTest, GivesBackAJobThatItTookForOneOfARequestWhoseFateIsUnknown) {
  const auto intent = Intend({Backup("full")});
  keeper_->Settle(intent, {Backup("full")}, /*may_begin=*/true);
  const auto jobs = Jobs("jobs { id: 'full' type: JOB_TYPE_BACKUP status: JOB_STATUS_RUNNING }");
  const auto block_jobs =
      BlockJobs("jobs { device: 'full' status: JOB_STATUS_RUNNING auto_dismiss: true }");
  keeper_->Reconcile(jobs, block_jobs, true);
  keeper_->Reconcile(jobs, block_jobs, true);
  EXPECT_THAT(Story(), ElementsAre("*CREATED", "*RUNNING"));
  Status("full", "CONCLUDED");
  executor_.RunAll();
  EXPECT_THAT(dismissed_, IsEmpty());
}

TEST_F(KeeperTest, TellsOfARestoredJobThatItBeganBeforeWhatItDoes) {
  ASSERT_TRUE(Store({Backup("full")}).ok());
  Restart(*store_.LoadJobs("vm"));
  Status("full", "CONCLUDED");  // Before anything could be asked.
  EXPECT_THAT(Story(), ElementsAre("*CREATED", "CONCLUDED"));
  EXPECT_THAT(dismissed_, ElementsAre("full"));
}

TEST_F(KeeperTest, TellsTheEndOfAJobWhoseIdIsAnothersNow) {
  Status("full", "CREATED");
  Status("full", "RUNNING");
  Status("full", "CREATED");
  EXPECT_THAT(Story(), ElementsAre("CREATED", "RUNNING", "*NULL", "CREATED"));
}

TEST_F(KeeperTest, EndsTheJobsOfAQemuThatIsAnotherProcessNow) {
  Intend({Backup("full")});
  Status("full", "CREATED");
  Status("full", "RUNNING");
  keeper_->Reconcile({}, {}, /*same_qemu=*/false);
  EXPECT_THAT(Story(), ElementsAre("CREATED", "RUNNING", "*NULL"));
  EXPECT_EQ(Known("full").outcome(), v1::JOB_OUTCOME_FAILED);
  EXPECT_EQ(Known("full").error_reason(), v1::ERROR_REASON_CONNECTION_LOST);
  EXPECT_FALSE(keeper_->AnyLives());
}

TEST_F(KeeperTest, FindsAJobWhoseStartWasNeverAnswered) {
  const auto intent = Intend({Backup("full")});
  keeper_->Settle(intent, {Backup("full")}, /*may_begin=*/true);
  keeper_->Reconcile(Jobs("jobs { id: 'full' type: JOB_TYPE_BACKUP status: JOB_STATUS_CONCLUDED }"),
                     BlockJobs("jobs { device: 'full' status: JOB_STATUS_CONCLUDED }"), true);
  EXPECT_THAT(Story(), ElementsAre("*CREATED", "*completed", "*CONCLUDED"));
  EXPECT_THAT(dismissed_, ElementsAre("full"));
}

TEST_F(KeeperTest, ForgetsAJobThatNeverBegan) {
  ASSERT_TRUE(Store({Backup("full")}).ok());
  const auto intent = Intend({Backup("full")});
  keeper_->Settle(intent, {Backup("full")}, /*may_begin=*/true);
  keeper_->Reconcile({}, {}, true);
  EXPECT_THAT(Story(), IsEmpty());
  EXPECT_THAT(store_.jobs, IsEmpty());
}

TEST_F(KeeperTest, GoesOnAfterARestartWithWhatWasStored) {
  ASSERT_TRUE(Store({Backup("full")}).ok());
  Intend({Backup("full")});
  Status("full", "CREATED");
  Status("full", "RUNNING");
  executor_.RunAll();
  Restart(*store_.LoadJobs("vm"));
  EXPECT_TRUE(keeper_->AnyLives());
  keeper_->Reconcile(Jobs("jobs { id: 'full' type: JOB_TYPE_BACKUP status: JOB_STATUS_CONCLUDED }"),
                     BlockJobs("jobs { device: 'full' status: JOB_STATUS_CONCLUDED }"), true);
  EXPECT_THAT(Story(), ElementsAre("CREATED", "RUNNING", "*completed", "*CONCLUDED"));
  EXPECT_THAT(dismissed_, ElementsAre("full"));
  Status("full", "NULL");
  executor_.RunAll();
  EXPECT_THAT(store_.jobs, IsEmpty());
}

TEST_F(KeeperTest, DoesNotKeepSilentAfterARestartAboutAJobWhoseBeginningWasNotSaved) {
  ASSERT_TRUE(Store({Backup("full")}).ok());
  Restart(*store_.LoadJobs("vm"));
  keeper_->EndAll("QEMU has gone");
  EXPECT_THAT(Story(), ElementsAre("*CREATED", "*NULL"));
  EXPECT_EQ(Known("full").outcome(), v1::JOB_OUTCOME_FAILED);
  EXPECT_EQ(Known("full").error_reason(), v1::ERROR_REASON_CONNECTION_LOST);
  executor_.RunAll();
  EXPECT_THAT(store_.jobs, IsEmpty());
}

TEST_F(KeeperTest, LeavesAJobInPeaceAfterARestartWhoseWholeStoryIsInTheLog) {
  ASSERT_TRUE(Store({Backup("full")}).ok());
  Intend({Backup("full")});
  Status("full", "CREATED");
  Event("block_job_completed { device: 'full' type: JOB_TYPE_BACKUP }");
  Status("full", "CONCLUDED");
  Status("full", "NULL");
  ASSERT_EQ(store_.jobs.size(), 1u);  // Killed before it was deleted.
  Restart(*store_.LoadJobs("vm"));
  keeper_->EndAll("QEMU has gone");
  EXPECT_THAT(Story(), ElementsAre("CREATED", "completed", "CONCLUDED", "NULL"));
  EXPECT_EQ(Known("full").outcome(), v1::JOB_OUTCOME_SUCCEEDED);
  executor_.RunAll();
  EXPECT_THAT(store_.jobs, IsEmpty());
}

TEST_F(KeeperTest, TellsAStoredJobFromTheOneOfItsNameThatEndedBeforeIt) {
  Intend({Backup("full")});
  Status("full", "CREATED");
  Event("block_job_completed { device: 'full' type: JOB_TYPE_BACKUP }");
  Status("full", "CONCLUDED");
  Status("full", "NULL");
  ASSERT_TRUE(Store({Backup("full")}).ok());
  Restart(*store_.LoadJobs("vm"));
  keeper_->Reconcile({}, {}, /*same_qemu=*/true);
  EXPECT_THAT(Story(),
              ElementsAre("CREATED", "completed", "CONCLUDED", "NULL", "*CREATED", "*NULL"));
  EXPECT_EQ(Known("full").outcome(), v1::JOB_OUTCOME_FAILED);
}

TEST_F(KeeperTest, DismissesAfterARestartWhatHadEndedBefore) {
  ASSERT_TRUE(Store({Backup("full")}).ok());
  Intend({Backup("full")});
  Status("full", "CREATED");
  Event("block_job_completed { device: 'full' type: JOB_TYPE_BACKUP }");
  Status("full", "CONCLUDED");
  Restart(*store_.LoadJobs("vm"));
  executor_.RunAll();
  dismissed_.clear();
  keeper_->Reconcile(Jobs("jobs { id: 'full' type: JOB_TYPE_BACKUP status: JOB_STATUS_CONCLUDED }"),
                     BlockJobs("jobs { device: 'full' status: JOB_STATUS_CONCLUDED }"), true);
  EXPECT_THAT(Story(), ElementsAre("CREATED", "completed", "CONCLUDED"));
  EXPECT_THAT(dismissed_, ElementsAre("full"));
}

}  // namespace
}  // namespace tidemark::qmp
