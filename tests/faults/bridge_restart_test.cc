// tidemarkd is killed without warning while virtual machines work: when it is back, jobs and their
// results are found, and a watcher goes on where it was or is told that it cannot.
#include "absl/strings/numbers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/faults/bridge_world.h"
#include "tests/faults/raw_monitor.h"
#include "tests/support/matchers.h"

namespace tidemark::test {
namespace {

class BridgeRestartTest : public ::testing::TestWithParam<QemuBuild> {
 protected:
  void SetUp() override {
    if (!GetParam().Missing().empty()) GTEST_SKIP() << GetParam().Missing();
    world_.StartQemu(GetParam(), "vm");
    ASSERT_TRUE(world_.Register("vm").ok());
    ASSERT_TRUE(world_.WaitForState("vm", v1::INSTANCE_STATE_READY));
  }

  // Starts a slow job and returns the sequence of the last event that a watcher has seen of it.
  uint64_t StartAndWatch() {
    const Refusal refusal = world_.StartBackup("vm", "job", /*slow=*/true);
    EXPECT_TRUE(refusal.ok()) << refusal;
    const auto events = world_.EventsUntil(
        0, [](const v1::Event& event) { return IsStatus(event, "job", v1::JOB_STATUS_RUNNING); });
    EXPECT_FALSE(events.empty());
    return events.empty() ? 0 : events.back().sequence();
  }

  v1::Job GetJob() {
    v1::GetJobRequest request;
    request.set_id("job");
    const auto reply = world_.ClientOf("vm").Invoke(request);
    EXPECT_TRUE(reply.ok()) << reply.refusal << world_.daemon().Log();
    return reply->job();
  }

  // What a watcher who had seen `after` gets, until the job has gone. If the service has lost what
  // it had shown, it says so, and the watcher begins anew.
  std::vector<v1::Event> RestOfTheStory(uint64_t after) {
    const auto is_gone = [](const v1::Event& event) {
      return IsStatus(event, "job", v1::JOB_STATUS_NULL);
    };
    Refusal refusal;
    std::vector<v1::Event> events = world_.EventsUntil(after, is_gone, &refusal);
    if (refusal.code == absl::StatusCode::kOutOfRange) {
      uint64_t oldest = 0;
      EXPECT_TRUE(absl::SimpleAtoi(refusal.metadata["oldest_sequence"], &oldest)) << refusal;
      events = world_.EventsUntil(oldest - 1, is_gone);
    }
    EXPECT_FALSE(events.empty()) << world_.daemon().Log();
    uint64_t last = 0;
    for (const v1::Event& event : events) {
      EXPECT_GT(event.sequence(), last);
      EXPECT_TRUE(event.sequence() > after || !refusal.ok());
      last = event.sequence();
    }
    return events;
  }

  static int CompletedOf(const std::vector<v1::Event>& events) {
    int count = 0;
    for (const v1::Event& event : events) count += event.has_block_job_completed();
    return count;
  }

  BridgeWorld world_;
};

TEST_P(BridgeRestartTest, AJobThatEndedWhileTheServiceWasDeadIsFoundWithItsResult) {
  const uint64_t seen = StartAndWatch();
  world_.KillDaemon();
  {
    RawMonitor monitor(world_.Socket("vm"));
    ASSERT_TRUE(monitor.ready());
    ASSERT_TRUE(monitor.Run("block-job-set-speed", {{"device", "job"}, {"speed", 0}}).ok());
    ASSERT_TRUE(monitor.WaitForJobStatus("job", "concluded"));
  }
  world_.StartDaemon();
  const std::vector<v1::Event> events = RestOfTheStory(seen);
  EXPECT_EQ(CompletedOf(events), 1);
  EXPECT_EQ(GetJob().outcome(), v1::JOB_OUTCOME_SUCCEEDED);
}

TEST_P(BridgeRestartTest, AJobThatStillRunsGoesOnAsIfNothingHadBeen) {
  const uint64_t seen = StartAndWatch();
  world_.KillDaemon();
  world_.StartDaemon();
  ASSERT_TRUE(world_.WaitForState("vm", v1::INSTANCE_STATE_READY));
  const v1::Job job = GetJob();
  EXPECT_EQ(job.status(), v1::JOB_STATUS_RUNNING) << job.ShortDebugString();
  EXPECT_EQ(job.type(), v1::JOB_TYPE_BACKUP);
  EXPECT_EQ(job.outcome(), v1::JOB_OUTCOME_UNSPECIFIED);

  v1::BlockJobSetSpeedRequest request;
  request.set_device("job");
  request.set_speed(0);
  const auto hurried = world_.ClientOf("vm").Invoke(request);
  ASSERT_TRUE(hurried.ok()) << hurried;
  EXPECT_EQ(CompletedOf(RestOfTheStory(seen)), 1);
  EXPECT_EQ(GetJob().outcome(), v1::JOB_OUTCOME_SUCCEEDED);
  // It has been dismissed for its starter, who had asked for that.
  const auto jobs = world_.ClientOf("vm").Invoke(v1::QueryJobsRequest());
  ASSERT_TRUE(jobs.ok()) << jobs;
  EXPECT_EQ(jobs->jobs_size(), 0);
}

TEST_P(BridgeRestartTest, AnExportThatEndedWhileTheServiceWasDeadIsTold) {
  ASSERT_TRUE(world_.AddNull("vm", "disk0").ok());
  v1::NbdServerStartRequest server;
  server.mutable_addr()->mutable_unix_socket()->set_path(world_.folder().File("nbd.sock"));
  ASSERT_TRUE(world_.ClientOf("vm").Invoke(server).ok());
  for (const char* const id : {"gone", "stays"}) {
    v1::BlockExportAddRequest add;
    add.set_id(id);
    add.set_node_name("disk0");
    add.mutable_nbd()->set_name(id);
    const auto added = world_.ClientOf("vm").Invoke(add);
    ASSERT_TRUE(added.ok()) << added;
  }
  EXPECT_EQ(world_.daemon().Stop(), 0);
  {
    RawMonitor monitor(world_.Socket("vm"));
    ASSERT_TRUE(monitor.ready());
    ASSERT_TRUE(monitor.Run("block-export-del", {{"id", "gone"}}).ok());
    ASSERT_TRUE(monitor.WaitForEvent("BLOCK_EXPORT_DELETED"));
  }
  world_.StartDaemon();
  const auto end_of = [](const std::string& id) {
    return [id](const v1::Event& event) { return event.block_export_deleted().id() == id; };
  };
  const std::vector<v1::Event> events = world_.EventsUntil(0, end_of("gone"));
  ASSERT_FALSE(events.empty());
  EXPECT_TRUE(events.back().recovered());
  EXPECT_EQ(events.back().block_export_deleted().node_name(), "disk0");

  world_.KillDaemon();
  world_.KillQemu("vm");
  world_.StartDaemon();
  // What was not saved yet that it was told is told again; so may be the other's end.
  EXPECT_FALSE(world_.EventsUntil(events.back().sequence(), end_of("stays")).empty());
}

TEST_P(BridgeRestartTest, AJobOfAnotherClientIsNotForgottenEither) {
  ASSERT_TRUE(world_.AddNull("vm", "source").ok());
  ASSERT_TRUE(world_.AddNull("vm", "target").ok());
  EXPECT_EQ(world_.daemon().Stop(), 0);
  {
    RawMonitor monitor(world_.Socket("vm"));
    ASSERT_TRUE(monitor.ready());
    ASSERT_TRUE(monitor
                    .Run("blockdev-backup", {{"job-id", "job"},
                                             {"device", "source"},
                                             {"target", "target"},
                                             {"sync", "full"},
                                             {"speed", 1024}})
                    .ok());
  }
  world_.StartDaemon();
  const auto running = world_.EventsUntil(
      0, [](const v1::Event& event) { return IsStatus(event, "job", v1::JOB_STATUS_RUNNING); });
  ASSERT_FALSE(running.empty());
  EXPECT_EQ(world_.daemon().Stop(), 0);
  {
    RawMonitor monitor(world_.Socket("vm"));
    ASSERT_TRUE(monitor.ready());
    ASSERT_TRUE(monitor.Run("block-job-set-speed", {{"device", "job"}, {"speed", 0}}).ok());
    ASSERT_TRUE(monitor.WaitForEvent("BLOCK_JOB_COMPLETED"));
  }
  world_.StartDaemon();
  RestOfTheStory(running.back().sequence());
  EXPECT_EQ(GetJob().error_reason(), v1::ERROR_REASON_CONNECTION_LOST);
}

TEST_P(BridgeRestartTest, AJobWhoseQemuDiedToo) {
  const uint64_t seen = StartAndWatch();
  world_.KillDaemon();
  world_.KillQemu("vm");
  world_.StartDaemon();
  EXPECT_EQ(CompletedOf(RestOfTheStory(seen)), 0);
  const v1::Job job = GetJob();
  EXPECT_EQ(job.outcome(), v1::JOB_OUTCOME_FAILED) << job.ShortDebugString();
  EXPECT_EQ(job.error_reason(), v1::ERROR_REASON_CONNECTION_LOST) << job.ShortDebugString();
}

TEST_P(BridgeRestartTest, AJobWhoseQemuWasReplaced) {
  const uint64_t seen = StartAndWatch();
  world_.KillDaemon();
  world_.KillQemu("vm");
  world_.StartQemu(GetParam(), "vm");
  world_.StartDaemon();
  EXPECT_EQ(CompletedOf(RestOfTheStory(seen)), 0);
  EXPECT_EQ(GetJob().outcome(), v1::JOB_OUTCOME_FAILED);
  ASSERT_TRUE(world_.WaitForState("vm", v1::INSTANCE_STATE_READY));
}

TEST_P(BridgeRestartTest, AnOrderlyStopLeavesJobsRunningToo) {
  const uint64_t seen = StartAndWatch();
  EXPECT_EQ(world_.daemon().Stop(), 0);
  world_.StartDaemon();
  ASSERT_TRUE(world_.WaitForState("vm", v1::INSTANCE_STATE_READY));
  v1::BlockJobCancelRequest request;
  request.set_device("job");
  EXPECT_TRUE(world_.ClientOf("vm").Invoke(request).ok());
  RestOfTheStory(seen);
  EXPECT_EQ(GetJob().outcome(), v1::JOB_OUTCOME_CANCELLED);
}

TEST_P(BridgeRestartTest, ManyKillsInARowLoseNoEventAndNoJob) {
  const uint64_t seen = StartAndWatch();
  for (int i = 0; i < 5; ++i) {
    world_.KillDaemon();
    world_.StartDaemon();
    ASSERT_TRUE(world_.WaitForState("vm", v1::INSTANCE_STATE_READY));
  }
  v1::BlockJobSetSpeedRequest request;
  request.set_device("job");
  request.set_speed(0);
  ASSERT_TRUE(world_.ClientOf("vm").Invoke(request).ok());
  EXPECT_EQ(CompletedOf(RestOfTheStory(seen)), 1);
  EXPECT_EQ(GetJob().outcome(), v1::JOB_OUTCOME_SUCCEEDED);
}

INSTANTIATE_TEST_SUITE_P(, BridgeRestartTest, ::testing::ValuesIn(QemuBuild::All()),
                         [](const auto& info) { return info.param.name(); });

}  // namespace
}  // namespace tidemark::test
