// Following what happens: event streams with replay and filters, job snapshots, waiting, history.
#include <cmath>
#include <thread>

#include "tests/conformance/conformance.h"

namespace tidemark::test {
namespace {

class EventScenarios : public Conformance {
 protected:
  void SetUp() override {
    Conformance::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    CreateFullDisk();
    operate().CreateDisk("target0");
  }
  // Everything from `after` on, through a heartbeat that says there is no more.
  std::vector<v1::Event> Replay(v1::WatchEventsRequest request) {
    request.mutable_heartbeat_interval()->set_nanos(100000000);
    for (size_t count = 8;; count *= 2) {
      const auto [responses, refusal] = world().client().WatchEvents(request, count);
      std::vector<v1::Event> events;
      for (size_t i = 0; i < responses.size(); ++i) {
        if (responses[i].has_event()) events.push_back(responses[i].event());
        if (i > 0 && responses[i].has_heartbeat()) return events;
      }
      if (!refusal.ok()) {
        ADD_FAILURE() << refusal;
        return events;
      }
    }
  }
  void RunBackup(const std::string& job, const std::string& target = "target0") {
    operate().Do(Backup({.job = job, .target = target}));
    operate().Finish(job);
  }
  static google::protobuf::Duration Seconds(double seconds) {
    google::protobuf::Duration duration;
    duration.set_seconds(static_cast<int64_t>(seconds));
    duration.set_nanos(static_cast<int32_t>((seconds - std::floor(seconds)) * 1e9));
    return duration;
  }
};

TEST_P(EventScenarios, AWatchOpensWithAHeartbeat) {
  v1::WatchEventsRequest request;
  const auto [responses, refusal] = world().client().WatchEvents(request, 1);
  ASSERT_EQ(responses.size(), 1u) << refusal;
  EXPECT_TRUE(responses[0].has_heartbeat());
}

// Which log a position belongs to is told by every stream, and a position of another one is no
// guess.
TEST_P(EventScenarios, APositionOfAnotherLogIsRefused) {
  const std::string own = operate().Do(v1::GetCapabilitiesRequest()).log_id();
  v1::WatchEventsRequest request;
  request.set_after(0);
  request.set_log_id(own);
  const auto [responses, refusal] = world().client().WatchEvents(request, 1);
  ASSERT_EQ(responses.size(), 1u) << refusal;
  EXPECT_EQ(responses[0].heartbeat().log_id(), own);
  request.set_log_id(std::string(own.size(), '0'));
  EXPECT_EQ(world().client().WatchEvents(request, 1).second.reason, "FOREIGN_LOG");
  Restart(/*crash=*/true);
  EXPECT_EQ(operate().Do(v1::GetCapabilitiesRequest()).log_id(), own)
      << "it is in the state folder";
}

TEST_P(EventScenarios, SilenceIsFilledWithHeartbeats) {
  v1::WatchEventsRequest request;
  *request.mutable_heartbeat_interval() = Seconds(0.1);
  const auto [responses, refusal] = world().client().WatchEvents(request, 4);
  ASSERT_EQ(responses.size(), 4u) << refusal;
  for (const auto& response : responses) EXPECT_TRUE(response.has_heartbeat());
}

TEST_P(EventScenarios, TheEventsOfACommandCanBeReplayedFromItsReply) {
  const uint64_t after = operate().Do(Backup({})).event_sequence();
  operate().Finish("job0");
  v1::WatchEventsRequest request;
  request.set_after(after);
  Story states;
  uint64_t last = after;
  for (const v1::Event& event : Replay(request)) {
    EXPECT_GT(event.sequence(), last);
    last = event.sequence();
    if (event.has_job_status_change()) {
      states.push_back(v1::JobStatus_Name(event.job_status_change().status()));
    }
  }
  ASSERT_FALSE(states.empty());
  EXPECT_EQ(states.front(), "JOB_STATUS_CREATED");
  EXPECT_EQ(states.back(), "JOB_STATUS_NULL");
}

TEST_P(EventScenarios, AWatcherGoesOnWhereItStopped) {
  RunBackup("first");
  v1::WatchEventsRequest request;
  request.set_after(0);
  const std::vector<v1::Event> before = Replay(request);
  ASSERT_FALSE(before.empty());
  RunBackup("second");
  request.set_after(before.back().sequence());
  for (const v1::Event& event : Replay(request)) {
    EXPECT_GT(event.sequence(), before.back().sequence());
    if (event.has_job_status_change()) {
      EXPECT_EQ(event.job_status_change().id(), "second");
    }
  }
}

TEST_P(EventScenarios, EventsAreFilteredByJobNodeAndKind) {
  operate().CreateDisk("target1");
  RunBackup("first");
  RunBackup("second", "target1");
  v1::WatchEventsRequest by_job;
  by_job.set_after(0);
  by_job.add_job_ids("second");
  const std::vector<v1::Event> of_second = Replay(by_job);
  EXPECT_FALSE(of_second.empty());
  for (const v1::Event& event : of_second) EXPECT_EQ(SubjectOf(event), "second");

  v1::WatchEventsRequest by_node;
  by_node.set_after(0);
  by_node.add_node_names("target1");
  by_node.add_kinds(v1::EVENT_KIND_JOB_STATUS_CHANGE);
  const std::vector<v1::Event> of_node = Replay(by_node);
  EXPECT_FALSE(of_node.empty());
  for (const v1::Event& event : of_node) EXPECT_EQ(SubjectOf(event), "second");

  v1::WatchEventsRequest by_kind;
  by_kind.set_after(0);
  by_kind.add_kinds(v1::EVENT_KIND_BLOCK_JOB_COMPLETED);
  std::vector<std::string> completed;
  for (const v1::Event& event : Replay(by_kind)) {
    EXPECT_EQ(event.kind(), v1::EVENT_KIND_BLOCK_JOB_COMPLETED);
    completed.push_back(SubjectOf(event));
  }
  EXPECT_THAT(completed, ElementsAre("first", "second"));

  v1::WatchEventsRequest elsewhere;
  elsewhere.set_after(0);
  elsewhere.add_instances("no-such-machine");
  EXPECT_THAT(Replay(elsewhere), IsEmpty());
}

TEST_P(EventScenarios, ASequenceOfTheFutureIsUnknown) {
  v1::WatchEventsRequest request;
  request.set_after(1u << 30);
  const auto [responses, refusal] = world().client().WatchEvents(request, 2);
  EXPECT_EQ(refusal.reason, "SEQUENCE_UNKNOWN") << refusal;
  EXPECT_EQ(refusal.code, absl::StatusCode::kOutOfRange);
  EXPECT_EQ(refusal.metadata.count("newest_sequence"), 1u) << refusal;
}

TEST_P(EventScenarios, ImpossibleIntervalsAreRefused) {
  v1::WatchEventsRequest request;
  *request.mutable_heartbeat_interval() = Seconds(0.01);
  const auto [responses, refusal] = world().client().WatchEvents(request, 2);
  EXPECT_EQ(refusal.reason, "INVALID_FIELD") << refusal;
  EXPECT_EQ(refusal.metadata.at("field"), "heartbeat_interval");
}

TEST_P(EventScenarios, ProgressIsPushed) {
  operate().Do(Backup({.speed = 8 * static_cast<int64_t>(kMiB)}));
  operate().Finish("job0");
  int64_t last = 0;
  int count = 0;
  for (const v1::Event& event : events().events()) {
    if (!event.has_job_progress()) continue;
    ++count;
    EXPECT_EQ(event.job_progress().type(), v1::JOB_TYPE_BACKUP);
    EXPECT_GE(event.job_progress().progress_bytes(), last);
    last = event.job_progress().progress_bytes();
    EXPECT_THAT(event.job_progress().node_names(), ElementsAre("disk0", "target0"));
  }
  EXPECT_GE(count, 1);
}

TEST_P(EventScenarios, EveryReplyCarriesThePositionOfTheLog) {
  RunBackup("job0");
  const uint64_t newest = events().events().back().sequence();
  EXPECT_GE(operate().Try(v1::QueryJobsRequest()).sequence, newest);
  EXPECT_GE(operate().Try(Del("disk9")).sequence, newest);
  EXPECT_GE(operate().Try(OfJob<v1::GetJobRequest>("job0")).sequence, newest);
}

TEST_P(EventScenarios, WatchersThatDisappearCostNothing) {
  for (int i = 0; i < 30; ++i) {
    // Each is dropped by its client after the first heartbeat.
    const auto [responses, refusal] = world().client().WatchEvents(v1::WatchEventsRequest(), 1);
    EXPECT_EQ(responses.size(), 1u) << refusal;
  }
  RunBackup("job0");
  EXPECT_EQ(operate().StoryOf("job0"), Success());
}

TEST_P(EventScenarios, WatchJobEndsWithTheJob) {
  operate().Do(Backup({.speed = kHold}));
  v1::WatchJobRequest request = OfJob<v1::WatchJobRequest>("job0");
  std::pair<std::vector<v1::Job>, Refusal> watched;
  std::thread watcher([&] { watched = world().client().WatchJob(request); });
  operate().ReleaseAndFinish("job0");
  watcher.join();
  ASSERT_TRUE(watched.second.ok()) << watched.second;
  ASSERT_FALSE(watched.first.empty());
  EXPECT_EQ(watched.first.back().outcome(), v1::JOB_OUTCOME_SUCCEEDED);
  EXPECT_EQ(watched.first.back().progress_bytes(), watched.first.back().total_bytes());
  for (size_t i = 0; i + 1 < watched.first.size(); ++i) {
    EXPECT_EQ(watched.first[i].outcome(), v1::JOB_OUTCOME_UNSPECIFIED);
  }
  // Of a job of the history there is one snapshot.
  watched = world().client().WatchJob(request);
  EXPECT_EQ(watched.first.size(), 1u);
  EXPECT_TRUE(watched.second.ok());
  watched = world().client().WatchJob(OfJob<v1::WatchJobRequest>("job9"));
  EXPECT_EQ(watched.second.reason, "JOB_NOT_FOUND") << watched.second;
}

TEST_P(EventScenarios, WaitJobReturnsAtTheEndOrWhenTheTimeIsUp) {
  operate().Do(Backup({.speed = kHold, .auto_finalize = false}));
  v1::WaitJobRequest look = OfJob<v1::WaitJobRequest>("job0");
  *look.mutable_timeout() = Seconds(0);
  EXPECT_FALSE(operate().Do(look).done());
  *look.mutable_timeout() = Seconds(0.2);
  EXPECT_FALSE(operate().Do(look).done());
  operate().Do(SetSpeed("job0", 0));
  v1::WaitJobRequest wait = OfJob<v1::WaitJobRequest>("job0");
  wait.add_statuses(v1::JOB_STATUS_PENDING);
  const auto pending = operate().Do(wait);
  EXPECT_TRUE(pending.done());
  EXPECT_EQ(pending.job().status(), v1::JOB_STATUS_PENDING);
  operate().Do(OfJob<v1::JobFinalizeRequest>("job0"));
  wait.clear_statuses();
  const auto ended = operate().Do(wait);
  EXPECT_TRUE(ended.done());
  EXPECT_EQ(ended.job().outcome(), v1::JOB_OUTCOME_SUCCEEDED);
}

TEST_P(EventScenarios, AWaitForAStateEndsWhenTheJobFailsBeforeIt) {
  operate().Do(Backup({.speed = kHold}));
  v1::WaitJobRequest wait = OfJob<v1::WaitJobRequest>("job0");
  wait.add_statuses(v1::JOB_STATUS_READY);
  v1::WaitJobResponse response;
  std::thread waiter([&] { response = operate().Do(wait); });
  operate().Do(OfJob<v1::JobCancelRequest>("job0"));
  waiter.join();
  EXPECT_TRUE(response.done());
  EXPECT_EQ(response.job().outcome(), v1::JOB_OUTCOME_CANCELLED);
}

TEST_P(EventScenarios, GetJobTellsOfRunningAndEndedJobs) {
  operate().Do(Backup({.speed = kHold}));
  v1::Job job = operate().Job("job0");
  EXPECT_EQ(job.status(), v1::JOB_STATUS_RUNNING);
  EXPECT_EQ(job.type(), v1::JOB_TYPE_BACKUP);
  EXPECT_THAT(job.node_names(), ElementsAre("disk0", "target0"));
  EXPECT_TRUE(job.has_start_time());
  EXPECT_FALSE(job.has_end_time());
  EXPECT_GT(job.start_sequence(), 0u);
  operate().ReleaseAndFinish("job0");
  job = operate().Job("job0");
  EXPECT_EQ(job.status(), v1::JOB_STATUS_NULL);
  EXPECT_EQ(job.outcome(), v1::JOB_OUTCOME_SUCCEEDED);
  EXPECT_EQ(job.progress_bytes(), static_cast<int64_t>(kDiskBytes));
  EXPECT_TRUE(job.has_end_time());
  EXPECT_THAT(operate().Jobs(), IsEmpty());
}

TEST_P(EventScenarios, AnIdUsedTwiceMeansTheNewerJob) {
  RunBackup("job0");
  const uint64_t first = operate().Job("job0").start_sequence();
  operate().Do(Backup({}));
  EXPECT_TRUE(events().WaitForStatusTimes("job0", v1::JOB_STATUS_NULL, 2));
  EXPECT_GT(operate().Job("job0").start_sequence(), first);
}

TEST_P(EventScenarios, ListJobsFiltersAndPages) {
  operate().CreateDisk("target1");
  for (int i = 0; i < 4; ++i) RunBackup("done" + std::to_string(i));
  operate().Do(Backup({.job = "alive", .target = "target1", .speed = kHold}));
  const auto ids = [this](const v1::ListJobsRequest& request) {
    std::vector<std::string> ids;
    const v1::ListJobsResponse response = operate().Do(request);
    for (const auto& job : response.jobs()) ids.push_back(job.id());
    return ids;
  };
  v1::ListJobsRequest request;
  EXPECT_THAT(ids(request), ElementsAre("alive", "done3", "done2", "done1", "done0"));
  request.set_ended(false);
  EXPECT_THAT(ids(request), ElementsAre("alive"));
  request.set_ended(true);
  EXPECT_THAT(ids(request), ElementsAre("done3", "done2", "done1", "done0"));
  request.clear_ended();
  request.add_node_names("target1");
  EXPECT_THAT(ids(request), ElementsAre("alive"));
  request.clear_node_names();
  request.add_types(v1::JOB_TYPE_CREATE);
  EXPECT_THAT(ids(request), IsEmpty());
  request.clear_types();

  request.set_page_size(2);
  std::vector<std::string> paged;
  int pages = 0;
  do {
    const v1::ListJobsResponse response = operate().Do(request);
    for (const auto& job : response.jobs()) paged.push_back(job.id());
    request.set_page_token(response.next_page_token());
    ASSERT_LT(++pages, 10);
  } while (!request.page_token().empty());
  EXPECT_EQ(pages, 3);
  EXPECT_THAT(paged, ElementsAre("alive", "done3", "done2", "done1", "done0"));

  v1::ListJobsRequest bad;
  bad.set_page_token("nonsense");
  ExpectRefused(bad, v1::ERROR_REASON_INVALID_FIELD, {"page_token"});
  bad.clear_page_token();
  bad.set_page_size(-1);
  ExpectRefused(bad, v1::ERROR_REASON_INVALID_FIELD, {"page_size", "-1"});
  operate().CancelAndAwait("alive");
}

TEST_P(EventScenarios, EventsAndHistorySurviveARestart) {
  RunBackup("job0");
  const uint64_t newest = events().events().back().sequence();
  operate().Do(Backup({.job = "lost", .speed = kHold}));
  Restart(/*crash=*/true);
  EXPECT_EQ(operate().Job("job0").outcome(), v1::JOB_OUTCOME_SUCCEEDED);
  v1::WatchEventsRequest request;
  request.set_after(newest);
  for (const v1::Event& event : Replay(request)) EXPECT_GT(event.sequence(), newest);
  operate().Attach("disk0");
  operate().CreateDisk("target1");
  const uint64_t after =
      operate().Do(Backup({.job = "job1", .target = "target1"})).event_sequence();
  EXPECT_GE(after, newest);
  operate().Finish("job1");
}

ON_EVERY_BACKEND(EventScenarios);

}  // namespace
}  // namespace tidemark::test
