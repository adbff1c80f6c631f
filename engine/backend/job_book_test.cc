#include "engine/backend/job_book.h"

#include <deque>
#include <map>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"

namespace tidemark::backend {
namespace {

namespace v1 = ::tidemark::block::v1;
using ::testing::ElementsAre;

// Runs tasks when told to.
class ManualExecutor final : public Executor {
 public:
  void Post(Task task) override { ready_.push_back(std::move(task)); }
  void PostAfter(absl::Duration, Task) override {}
  void Run() {
    while (!ready_.empty()) {
      Task task = std::move(ready_.front());
      ready_.pop_front();
      task();
    }
  }

 private:
  std::deque<Task> ready_;
};

class JobBookTest : public testing::Test {
 protected:
  void Append(const std::string& text, const std::string& instance = "") {
    Event event;
    ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &event)) << text;
    log_.Append(instance, event);
    clock_.Advance(absl::Seconds(1));
  }
  void Status(const std::string& job, const std::string& status, const std::string& instance = "") {
    Append("job_status_change { id: '" + job + "' status: JOB_STATUS_" + status +
               " type: JOB_TYPE_BACKUP node_names: 'drive0' node_names: 'target0' }",
           instance);
  }
  void Run(const std::string& job) {
    for (const char* status : {"CREATED", "RUNNING", "WAITING", "PENDING"}) Status(job, status);
    Append("block_job_completed { device: '" + job +
           "' type: JOB_TYPE_BACKUP len: 800 offset: 800 speed: 9 }");
    Status(job, "CONCLUDED");
    Status(job, "NULL");
  }
  v1::Job Find(const std::string& id) {
    const auto entry = book_.Find("", id);
    EXPECT_TRUE(entry.ok()) << entry.status();
    return entry.ok() ? entry->view.job() : v1::Job();
  }
  std::vector<std::string> List(v1::ListJobsRequest request) {
    std::vector<std::string> ids;
    for (;;) {
      const auto page = book_.List(request);
      EXPECT_TRUE(page.ok()) << page.status();
      if (!page.ok()) return ids;
      for (const v1::Job& job : page->jobs()) ids.push_back(job.instance() + "/" + job.id());
      if (page->next_page_token().empty()) return ids;
      request.set_page_token(page->next_page_token());
      ids.push_back("|");
    }
  }

  ManualClock clock_;
  ManualExecutor executor_;
  EventLog log_{clock_, executor_};
  JobBook book_{log_, {}, 3};
};

TEST_F(JobBookTest, AJobThatNobodyStartedIsNotFound) {
  const absl::Status status = book_.Find("", "j").status();
  EXPECT_EQ(DetailsOf(status)->reason, Reason::kJobNotFound);
}

TEST_F(JobBookTest, AnAnswerIncludesAllThatTheLogHolds) {
  Status("j", "CREATED");
  EXPECT_EQ(Find("j").status(), v1::JOB_STATUS_CREATED);
  Status("j", "RUNNING");
  const v1::Job job = Find("j");
  EXPECT_EQ(job.status(), v1::JOB_STATUS_RUNNING);
  EXPECT_EQ(job.type(), v1::JOB_TYPE_BACKUP);
  EXPECT_THAT(job.node_names(), ElementsAre("drive0", "target0"));
  EXPECT_EQ(job.outcome(), v1::JOB_OUTCOME_UNSPECIFIED);
  EXPECT_EQ(job.start_sequence(), 1u);
  EXPECT_EQ(job.event_sequence(), 2u);
}

TEST_F(JobBookTest, ASuccessfulJobKeepsItsResult) {
  Run("j");
  const v1::Job job = Find("j");
  EXPECT_EQ(job.status(), v1::JOB_STATUS_NULL);
  EXPECT_EQ(job.outcome(), v1::JOB_OUTCOME_SUCCEEDED);
  EXPECT_EQ(job.error(), "");
  EXPECT_EQ(job.progress_bytes(), 800);
  EXPECT_EQ(job.speed_bytes_per_second(), 9);
  EXPECT_EQ(job.end_time().seconds() - job.start_time().seconds(), 5);
  EXPECT_EQ(job.rate_bytes_per_second(), 160);
}

TEST_F(JobBookTest, TheOutcomeIsToldWhenTheJobIsConcludedNotBefore) {
  Status("j", "CREATED");
  Append("block_job_completed { device: 'j' error: 'Input/output error' }");
  EXPECT_EQ(Find("j").outcome(), v1::JOB_OUTCOME_UNSPECIFIED);
  Status("j", "CONCLUDED");
  EXPECT_EQ(Find("j").outcome(), v1::JOB_OUTCOME_FAILED);
  EXPECT_EQ(Find("j").error(), "Input/output error");
}

TEST_F(JobBookTest, ACancelledJobSaysSo) {
  Status("j", "CREATED");
  Status("j", "ABORTING");
  Append("block_job_cancelled { device: 'j' type: JOB_TYPE_BACKUP len: 8 offset: 4 }");
  Status("j", "CONCLUDED");
  EXPECT_EQ(Find("j").outcome(), v1::JOB_OUTCOME_CANCELLED);
  EXPECT_EQ(Find("j").error_reason(), v1::ERROR_REASON_JOB_CANCELLED);
  EXPECT_NE(Find("j").error(), "");
}

TEST_F(JobBookTest, AJobWithoutBlockJobEventsIsJudgedByItsStates) {
  Status("good", "CREATED");
  Status("good", "CONCLUDED");
  EXPECT_EQ(Find("good").outcome(), v1::JOB_OUTCOME_SUCCEEDED);
  Status("bad", "CREATED");
  Status("bad", "ABORTING");
  Append("job_progress { id: 'bad' error: 'no space' error_reason: ERROR_REASON_NO_SPACE }");
  Status("bad", "CONCLUDED");
  EXPECT_EQ(Find("bad").outcome(), v1::JOB_OUTCOME_FAILED);
  EXPECT_EQ(Find("bad").error(), "no space");
  EXPECT_EQ(Find("bad").error_reason(), v1::ERROR_REASON_NO_SPACE);
  Status("stillborn", "CREATED");
  Status("stillborn", "NULL");
  EXPECT_EQ(Find("stillborn").outcome(), v1::JOB_OUTCOME_FAILED);
}

TEST_F(JobBookTest, ProgressFillsInWhatStatesDoNotTell) {
  Status("j", "CREATED");
  Append(
      "job_progress { id: 'j' progress_bytes: 5 total_bytes: 10 rate_bytes_per_second: 3 "
      "speed_bytes_per_second: 7 io_status: BLOCK_DEVICE_IO_STATUS_OK auto_dismiss: true }");
  const v1::Job job = Find("j");
  EXPECT_EQ(job.progress_bytes(), 5);
  EXPECT_EQ(job.total_bytes(), 10);
  EXPECT_EQ(job.rate_bytes_per_second(), 3);
  EXPECT_EQ(job.speed_bytes_per_second(), 7);
  EXPECT_EQ(job.io_status(), v1::BLOCK_DEVICE_IO_STATUS_OK);
  EXPECT_TRUE(job.auto_dismiss());
  EXPECT_FALSE(job.auto_finalize());
  EXPECT_EQ(job.progress_time().seconds(), 1);
}

TEST_F(JobBookTest, ErrorsAreCountedWithThoseAnEventStandsFor) {
  Status("j", "CREATED");
  for (int i = 0; i < 50; ++i) {
    Append("block_job_error { device: 'j' action: BLOCK_ERROR_ACTION_IGNORE count: 2 }");
  }
  EXPECT_EQ(Find("j").error_count(), 100u);
}

TEST_F(JobBookTest, AnIdUsedAgainMeansTheNewerJobAndBothAreListed) {
  Run("j");
  Status("j", "CREATED");
  EXPECT_EQ(Find("j").status(), v1::JOB_STATUS_CREATED);
  EXPECT_THAT(List({}), ElementsAre("/j", "/j"));
}

TEST_F(JobBookTest, FiguresToldBeforeAJobIsCreatedAreOfThatJob) {
  for (int i = 1; i <= 2; ++i) {
    Append("job_progress { id: 'j' speed_bytes_per_second: " + std::to_string(i) + " }");
    Run("j");
  }
  EXPECT_THAT(List({}), ElementsAre("/j", "/j"));
  v1::ListJobsRequest living;
  living.set_ended(false);
  EXPECT_THAT(List(living), ElementsAre());
}

TEST_F(JobBookTest, TheHistoryIsBoundedAndForgetsTheOldestEndFirst) {
  Status("living", "CREATED");
  for (const char* id : {"a", "b", "c", "d"}) Run(id);
  EXPECT_FALSE(book_.Find("", "a").ok());
  EXPECT_THAT(List({}), ElementsAre("/d", "/c", "/b", "/living"));
}

TEST_F(JobBookTest, AJobWhoseEndWasMissedIsForgottenLikeAnEndedOne) {
  for (int i = 0; i < 10; ++i) Status("j", "CREATED");
  EXPECT_EQ(List({}).size(), 4u) << "one that lives and a history of three";
}

TEST_F(JobBookTest, ListsArePagedNewestFirst) {
  for (const char* id : {"a", "b", "c", "d", "e"}) Status(id, "CREATED");
  v1::ListJobsRequest request;
  request.set_page_size(2);
  EXPECT_THAT(List(request), ElementsAre("/e", "/d", "|", "/c", "/b", "|", "/a"));
}

TEST_F(JobBookTest, ListsAreFiltered) {
  Run("old");
  Status("new", "CREATED");
  Status("new", "CREATED", "vm1");
  v1::ListJobsRequest request;
  request.set_ended(true);
  EXPECT_THAT(List(request), ElementsAre("/old"));
  request.set_ended(false);
  EXPECT_THAT(List(request), ElementsAre("vm1/new", "/new"));
  request.add_instances("");
  EXPECT_THAT(List(request), ElementsAre("/new"));
  request.add_types(v1::JOB_TYPE_MIRROR);
  EXPECT_THAT(List(request), ElementsAre());
  request.set_types(0, v1::JOB_TYPE_BACKUP);
  request.add_node_names("target0");
  EXPECT_THAT(List(request), ElementsAre("/new"));
  request.set_node_names(0, "nobody");
  EXPECT_THAT(List(request), ElementsAre());
}

TEST_F(JobBookTest, APageTokenOfOtherFiltersOrOfNobodyIsRefused) {
  for (const char* id : {"a", "b"}) Status(id, "CREATED");
  v1::ListJobsRequest request;
  request.set_page_size(1);
  const std::string token = book_.List(request)->next_page_token();
  request.set_page_token(token);
  EXPECT_TRUE(book_.List(request).ok());
  request.add_types(v1::JOB_TYPE_MIRROR);
  EXPECT_EQ(book_.List(request).status().code(), absl::StatusCode::kInvalidArgument);
  for (const char* nonsense : {"x", "1", "1.2", "-1.2", "1.2.3", "."}) {
    request.set_page_token(nonsense);
    EXPECT_EQ(DetailsOf(book_.List(request).status())->reason, Reason::kInvalidField) << nonsense;
  }
}

// Of a service that was started anew without a state folder: the same sequences are other jobs.
TEST_F(JobBookTest, APageTokenOfAnotherLogIsRefused) {
  EventLog other_log(clock_, executor_);
  const JobBook other(other_log);
  for (const char* id : {"a", "b"}) {
    Status(id, "CREATED");
    Event event;
    event.mutable_job_status_change()->set_id(id);
    other_log.Append("", event);
  }
  v1::ListJobsRequest request;
  request.set_page_size(1);
  request.set_page_token(other.List(request)->next_page_token());
  EXPECT_TRUE(other.List(request).ok());
  EXPECT_EQ(DetailsOf(book_.List(request).status())->reason, Reason::kInvalidField);
}

TEST_F(JobBookTest, NodesOfAJobAreFoundForOldEventsOfTheSameId) {
  Append("job_status_change { id: 'j' status: JOB_STATUS_CREATED node_names: 'first' }");
  Append("job_status_change { id: 'j' status: JOB_STATUS_NULL }");
  Append("job_status_change { id: 'j' status: JOB_STATUS_CREATED node_names: 'second' }");
  const auto first = [](const std::string& node) { return node == "first"; };
  EXPECT_TRUE(book_.WorksOn("", "j", 1, first));
  EXPECT_TRUE(book_.WorksOn("", "j", 2, first));
  EXPECT_FALSE(book_.WorksOn("", "j", 3, first));
  EXPECT_FALSE(book_.WorksOn("", "j", 0, first));
  EXPECT_FALSE(book_.WorksOn("", "other", 3, first));
}

TEST_F(JobBookTest, TheBookReadsOnByItselfSoThatTheLogDoesNotOutrunIt) {
  EventLogOptions options;
  options.events_kept_max = 2 * kBookBehindMax;
  EventLog log(clock_, executor_, options);
  JobBook book(log);
  for (size_t i = 0; i < 2 * options.events_kept_max; ++i) {
    Event event;
    event.mutable_job_status_change()->set_id(absl::StrCat("job", i));
    log.Append("", event);
    executor_.Run();
  }
  EXPECT_TRUE(book.Find("", "job0").ok());
}

TEST_F(JobBookTest, ABookThatFellBehindGoesOnWithWhatIsLeft) {
  EventLogOptions options;
  options.events_kept_max = 2;
  EventLog log(clock_, executor_, options);
  JobBook book(log);
  for (const char* id : {"a", "b", "c"}) {
    Event event;
    event.mutable_job_status_change()->set_id(id);
    log.Append("", event);
  }
  EXPECT_FALSE(book.Find("", "a").ok());
  EXPECT_TRUE(book.Find("", "c").ok());
}

TEST_F(JobBookTest, AJobWhoseIdAnotherTakesHasEnded) {
  Append("job_status_change { id: 'j' status: JOB_STATUS_CREATED }");
  Append("job_status_change { id: 'j' status: JOB_STATUS_RUNNING }");
  Append("job_status_change { id: 'j' status: JOB_STATUS_CREATED }");
  v1::ListJobsRequest request;
  request.set_ended(true);
  const auto ended = book_.List(request);
  ASSERT_EQ(ended->jobs_size(), 1);
  EXPECT_EQ(ended->jobs(0).outcome(), v1::JOB_OUTCOME_FAILED);
  EXPECT_EQ(ended->jobs(0).error_reason(), v1::ERROR_REASON_CONNECTION_LOST);
  EXPECT_EQ(ended->jobs(0).status(), v1::JOB_STATUS_NULL);
}

TEST_F(JobBookTest, WhatRemainsOfAnInstanceIsItsJobsThatHaveNotGone) {
  Append("job_status_change { id: 'runs' status: JOB_STATUS_RUNNING }");
  Append("job_status_change { id: 'concluded' status: JOB_STATUS_CONCLUDED }");
  Append("job_status_change { id: 'gone' status: JOB_STATUS_CREATED }");
  Append("job_status_change { id: 'gone' status: JOB_STATUS_NULL }");
  std::vector<std::string> remaining;
  for (const v1::Job& job : book_.Remaining("")) remaining.push_back(job.id());
  EXPECT_THAT(remaining, ElementsAre("concluded", "runs"));
  EXPECT_TRUE(book_.Remaining("other").empty());
}

TEST_F(JobBookTest, WhatAnEarlierProcessKnewIsStillKnown) {
  Event created;
  created.set_sequence(4);
  created.mutable_job_status_change()->set_id("old");
  created.mutable_job_status_change()->set_status(v1::JOB_STATUS_CREATED);
  Event ended = created;
  ended.set_sequence(5);
  ended.mutable_job_status_change()->set_status(v1::JOB_STATUS_CONCLUDED);
  JobHistory history;
  history.jobs.emplace_back(created);
  history.jobs[0].Apply(ended);
  history.position = 5;
  EventLogOptions options;
  options.start_after = 100;
  EventLog log(clock_, executor_, options);
  const JobBook book(log, history);
  EXPECT_EQ(book.Find("", "old")->view.job().outcome(), v1::JOB_OUTCOME_SUCCEEDED);
  EXPECT_FALSE(log.Read(5).ok()) << "watchers are told of the gap";
  created.set_sequence(0);
  log.Append("", created);
  EXPECT_EQ(book.Find("", "old")->view.job().start_sequence(), 101u) << "another of its id";
}

// A tenant's thousand jobs do not evict the one of another.
TEST_F(JobBookTest, TheInstanceWithMostResultsLosesItsOldest) {
  Status("theirs", "CREATED", "vm1");
  Status("theirs", "NULL", "vm1");
  for (const char* id : {"a", "b", "c", "d", "e"}) Run(id);
  EXPECT_TRUE(book_.Find("vm1", "theirs").ok());
  EXPECT_THAT(List({}), ElementsAre("/e", "/d", "vm1/theirs"));
}

TEST_F(JobBookTest, AResultOutlivesTheEventsThatToldIt) {
  EventLogOptions options;
  options.events_kept_max = 10;
  EventLog log(clock_, executor_, options);
  const JobBook book(log);
  Event end;
  end.mutable_job_status_change()->set_id("j");
  end.mutable_job_status_change()->set_status(v1::JOB_STATUS_NULL);
  log.Append("", end);
  ASSERT_TRUE(book.Find("", "j").ok());
  Event other;
  other.mutable_stop();
  for (int i = 0; i < 100; ++i) {
    log.Append("", other);
    executor_.Run();
  }
  EXPECT_TRUE(book.Find("", "j").ok());
}

TEST_F(JobBookTest, WhatIsNotSavedIsMarked) {
  // Never answers, since nobody runs it.
  class Tail final : public EventTail {
    absl::StatusOr<Saved> Load() override { return Saved(); }
    absl::Status Save(const std::vector<EventPtr>&) override {
      return is_full ? absl::ResourceExhaustedError("full") : absl::OkStatus();
    }
    void AddGap() override {}

   public:
    bool is_full = false;
  };
  const auto tail = std::make_shared<Tail>();
  EventLogOptions options;
  options.tail = tail;
  EventLog log(clock_, executor_, options);
  const JobBook book(log);
  Event event;
  event.mutable_job_status_change()->set_id("j");
  event.mutable_job_status_change()->set_status(v1::JOB_STATUS_CREATED);
  log.Append("", event);
  EXPECT_FALSE(book.Find("", "j").ok()) << "it is not told before it is saved";
  EXPECT_EQ(book.Remaining("").size(), 1u) << "engines must know all the same";
  executor_.Run();
  EXPECT_FALSE(book.Find("", "j")->view.job().unsaved());
  tail->is_full = true;
  event.mutable_job_status_change()->set_status(v1::JOB_STATUS_CONCLUDED);
  log.Append("", event);
  executor_.Run();
  EXPECT_EQ(book.Find("", "j")->view.job().outcome(), v1::JOB_OUTCOME_SUCCEEDED);
  EXPECT_TRUE(book.Find("", "j")->view.job().unsaved());
  EXPECT_TRUE(book.List({})->jobs(0).unsaved());
}

TEST_F(JobBookTest, AWakeThatOutlivesTheBookDoesNothing) {
  auto log = std::make_unique<EventLog>(clock_, executor_);
  auto book = std::make_unique<JobBook>(*log);
  log->Append("", Event());
  book.reset();
  EXPECT_EQ(log->waiting_count(), 0u);
  log.reset();
  executor_.Run();
}

}  // namespace
}  // namespace tidemark::backend
