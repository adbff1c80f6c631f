// QEMU dies, is replaced, stalls, talks nonsense, or is somebody else's: requests end with the
// truth, other virtual machines notice nothing, and what comes back is found again.
#include <thread>

#include "adapters/qmp/testing/fake_monitor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/faults/bridge_world.h"
#include "tests/faults/monitor_proxy.h"
#include "tests/faults/raw_monitor.h"

namespace tidemark::test {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::Not;

class BridgeFaultTest : public ::testing::TestWithParam<QemuBuild> {
 protected:
  void SetUp() override {
    if (!GetParam().Missing().empty()) GTEST_SKIP() << GetParam().Missing();
  }

  // A virtual machine that is registered and ready.
  void Start(BridgeWorld& world, const std::string& instance) {
    world.StartQemu(GetParam(), instance);
    ASSERT_TRUE(world.Register(instance).ok());
    ASSERT_TRUE(world.WaitForState(instance, v1::INSTANCE_STATE_READY));
  }

  static Reply<v1::QueryJobsResponse> QueryJobs(BridgeWorld& world, const std::string& instance) {
    return world.ClientOf(instance).Invoke(v1::QueryJobsRequest());
  }

  static v1::Job GetJob(BridgeWorld& world, const std::string& instance, const std::string& job) {
    v1::GetJobRequest request;
    request.set_id(job);
    const auto reply = world.ClientOf(instance).Invoke(request);
    EXPECT_TRUE(reply.ok()) << reply.refusal;
    return reply->job();
  }

  static uint64_t Sequence(BridgeWorld& world) {
    return world.ClientOf("").Invoke(v1::ListInstancesRequest()).sequence;
  }

  // Where the job's life is over, whatever QEMU's part in it.
  static auto IsGone(const std::string& job) {
    return [job](const v1::Event& event) { return IsStatus(event, job, v1::JOB_STATUS_NULL); };
  }
};

TEST_P(BridgeFaultTest, AKilledQemuEndsItsJobsAndItsRequestsAndNothingElse) {
  BridgeWorld world;
  Start(world, "vm1");
  Start(world, "vm2");
  ASSERT_TRUE(world.StartBackup("vm1", "job", /*slow=*/true).ok());
  ASSERT_TRUE(world.StartBackup("vm2", "job", /*slow=*/true).ok());
  const uint64_t before = Sequence(world);

  world.KillQemu("vm1");
  ASSERT_TRUE(world.WaitForState("vm1", v1::INSTANCE_STATE_UNREACHABLE));
  EXPECT_FALSE(world.EventsUntil(before, IsGone("job")).empty());
  const v1::Job job = GetJob(world, "vm1", "job");
  EXPECT_EQ(job.outcome(), v1::JOB_OUTCOME_FAILED) << job.ShortDebugString();
  EXPECT_EQ(job.error_reason(), v1::ERROR_REASON_CONNECTION_LOST) << job.ShortDebugString();
  EXPECT_EQ(QueryJobs(world, "vm1").refusal.code, absl::StatusCode::kUnavailable);

  const auto others = QueryJobs(world, "vm2");
  ASSERT_TRUE(others.ok()) << others;
  EXPECT_EQ(others->jobs_size(), 1);
}

TEST_P(BridgeFaultTest, AnotherQemuAtTheSamePathIsReadyAndDoesNotInheritJobs) {
  BridgeWorld world;
  Start(world, "vm");
  const pid_t pid_before = world.Qemu("vm").pid();
  ASSERT_TRUE(world.StartBackup("vm", "job", /*slow=*/true).ok());
  const uint64_t before = Sequence(world);

  world.KillQemu("vm");
  world.StartQemu(GetParam(), "vm", FirstClient::kService);
  const auto [came, instance] = world.WaitFor("vm", [&](const v1::Instance& now) {
    return now.state() == v1::INSTANCE_STATE_READY && now.process_id() != pid_before;
  });
  ASSERT_TRUE(came) << instance.ShortDebugString();
  EXPECT_EQ(instance.process_id(), world.Qemu("vm").pid());
  EXPECT_FALSE(world.EventsUntil(before, IsGone("job")).empty());
  EXPECT_EQ(GetJob(world, "vm", "job").error_reason(), v1::ERROR_REASON_CONNECTION_LOST);
  const auto jobs = QueryJobs(world, "vm");
  ASSERT_TRUE(jobs.ok()) << jobs;
  EXPECT_EQ(jobs->jobs_size(), 0);
  // Its name is free again.
  EXPECT_TRUE(world.StartBackup("vm", "job", /*slow=*/false).ok());
}

TEST_P(BridgeFaultTest, AStalledQemuEndsRequestsWithAnUnknownOutcomeAndComesBackWithItsJobs) {
  BridgeWorld world({"--monitor_timeout=5"});
  Start(world, "stalled");
  Start(world, "other");
  ASSERT_TRUE(world.StartBackup("stalled", "job", /*slow=*/true).ok());

  world.Qemu("stalled").Freeze();
  const Refusal refusal = world.AddNull("stalled", "late");
  EXPECT_EQ(refusal.code, absl::StatusCode::kUnavailable) << refusal;
  EXPECT_EQ(refusal.reason, "CONNECTION_LOST") << refusal;
  EXPECT_EQ(refusal.metadata.count("outcome"), 1U) << refusal;
  ASSERT_TRUE(world.WaitForState("stalled", v1::INSTANCE_STATE_UNREACHABLE));
  // The other one goes on as if nothing were.
  EXPECT_TRUE(world.StartBackup("other", "job", /*slow=*/false).ok());
  // A job that may still run is not called ended.
  EXPECT_EQ(GetJob(world, "stalled", "job").outcome(), v1::JOB_OUTCOME_UNSPECIFIED);

  world.Qemu("stalled").Thaw();
  ASSERT_TRUE(world.WaitForState("stalled", v1::INSTANCE_STATE_READY));
  const auto jobs = QueryJobs(world, "stalled");
  ASSERT_TRUE(jobs.ok()) << jobs;
  ASSERT_EQ(jobs->jobs_size(), 1);
  EXPECT_EQ(jobs->jobs(0).id(), "job");
}

TEST_P(BridgeFaultTest, AStalledQemuIsNoticedWhileNobodyAsks) {
  BridgeWorld world({"--monitor_timeout=5"});
  Start(world, "vm");
  world.Qemu("vm").Freeze();
  EXPECT_TRUE(world.WaitForState("vm", v1::INSTANCE_STATE_UNREACHABLE));
  world.Qemu("vm").Thaw();
  EXPECT_TRUE(world.WaitForState("vm", v1::INSTANCE_STATE_READY));
}

TEST_P(BridgeFaultTest, ARequestInFlightWhenTheSocketIsCutSaysThatItsOutcomeIsUnknown) {
  BridgeWorld world;
  world.StartQemu(GetParam(), "vm");
  MonitorProxy proxy(world.folder().File("proxy"), world.Socket("vm"));
  ASSERT_TRUE(world.Register("vm", world.folder().File("proxy")).ok());
  ASSERT_TRUE(world.WaitForState("vm", v1::INSTANCE_STATE_READY));

  proxy.Mute();
  Refusal refusal;
  std::thread request([&] { refusal = world.AddNull("vm", "node"); });
  EXPECT_TRUE(proxy.WaitForMuted("\"return\""));
  proxy.Cut();
  request.join();
  EXPECT_EQ(refusal.code, absl::StatusCode::kUnavailable) << refusal;
  EXPECT_EQ(refusal.reason, "CONNECTION_LOST");
  EXPECT_EQ(refusal.metadata["outcome"], "unknown") << refusal;

  // And it had been carried out.
  proxy.Mend();
  const auto [again, instance] = world.WaitFor("vm", [](const v1::Instance& now) {
    return now.state() == v1::INSTANCE_STATE_READY && now.counters().connections() == 2;
  });
  ASSERT_TRUE(again) << instance.ShortDebugString();
  EXPECT_EQ(world.AddNull("vm", "node").reason, "NODE_EXISTS");
}

TEST_P(BridgeFaultTest, AMonitorBehindTcpIsServedLikeAnyOther) {
  BridgeWorld world({"--instance_address=127.0.0.1"});
  world.StartQemu(GetParam(), "vm");
  MonitorProxy proxy("", world.Socket("vm"));
  v1::CreateInstanceRequest request;
  request.set_id("vm");
  request.mutable_address()->mutable_tcp()->set_host("127.0.0.1");
  request.mutable_address()->mutable_tcp()->set_port(proxy.port());
  const auto created = world.ClientOf("").Invoke(request);
  ASSERT_TRUE(created.ok()) << created;
  ASSERT_TRUE(world.WaitForState("vm", v1::INSTANCE_STATE_READY));
  ASSERT_TRUE(world.StartBackup("vm", "job", /*slow=*/true).ok());

  proxy.Cut();
  const auto is_lost = [](const v1::Instance& now) {
    return now.state() != v1::INSTANCE_STATE_READY;
  };
  ASSERT_TRUE(world.WaitFor("vm", is_lost).first);
  proxy.Mend();
  ASSERT_TRUE(world.WaitForState("vm", v1::INSTANCE_STATE_READY));
  EXPECT_EQ(GetJob(world, "vm", "job").status(), v1::JOB_STATUS_RUNNING);
}

TEST_P(BridgeFaultTest, AJobThatEndedWhileTheSocketWasCutIsFoundWithItsResult) {
  BridgeWorld world;
  world.StartQemu(GetParam(), "vm");
  MonitorProxy proxy(world.folder().File("proxy"), world.Socket("vm"));
  ASSERT_TRUE(world.Register("vm", world.folder().File("proxy")).ok());
  ASSERT_TRUE(world.WaitForState("vm", v1::INSTANCE_STATE_READY));
  ASSERT_TRUE(world.StartBackup("vm", "good", /*slow=*/true).ok());
  const uint64_t before = Sequence(world);

  proxy.Cut();
  ASSERT_TRUE(
      world
          .WaitFor("vm",
                   [](const v1::Instance& now) { return now.state() != v1::INSTANCE_STATE_READY; })
          .first);
  {
    // Somebody else lets it finish meanwhile.
    RawMonitor monitor(world.Socket("vm"));
    ASSERT_TRUE(monitor.ready());
    ASSERT_TRUE(monitor.Run("block-job-set-speed", {{"device", "good"}, {"speed", 0}}).ok());
    ASSERT_TRUE(monitor.WaitForJobStatus("good", "concluded"));
  }
  proxy.Mend();

  const std::vector<v1::Event> events = world.EventsUntil(before, IsGone("good"));
  ASSERT_FALSE(events.empty());
  int completed = 0;
  for (const v1::Event& event : events) {
    if (!event.has_block_job_completed()) continue;
    ++completed;
    EXPECT_TRUE(event.recovered()) << event.ShortDebugString();
    EXPECT_EQ(event.block_job_completed().error(), "");
  }
  EXPECT_EQ(completed, 1);
  EXPECT_EQ(GetJob(world, "vm", "good").outcome(), v1::JOB_OUTCOME_SUCCEEDED);
  // Dismissed for its starter, who had asked for that.
  RawMonitor monitor(world.Socket("vm"), absl::Seconds(2));
  EXPECT_FALSE(monitor.ready()) << "the service should hold the monitor";
}

TEST_P(BridgeFaultTest, AMonitorThatSomebodyElseHoldsIsToldAsSuchAndTakenWhenItIsFree) {
  BridgeWorld world;
  world.StartQemu(GetParam(), "vm");
  auto holder = std::make_unique<RawMonitor>(world.Socket("vm"));
  ASSERT_TRUE(holder->ready());
  ASSERT_TRUE(world.Register("vm").ok());
  const auto [came, instance] = world.WaitFor(
      "vm", [](const v1::Instance& now) { return now.state() == v1::INSTANCE_STATE_UNREACHABLE; });
  ASSERT_TRUE(came);
  EXPECT_THAT(instance.error(), HasSubstr("another client"));
  EXPECT_EQ(QueryJobs(world, "vm").refusal.code, absl::StatusCode::kUnavailable);
  holder.reset();
  EXPECT_TRUE(world.WaitForState("vm", v1::INSTANCE_STATE_READY));
}

TEST_P(BridgeFaultTest, GarbageOnTheWireEndsOnlyThatConnection) {
  BridgeWorld world;
  Start(world, "other");
  world.StartQemu(GetParam(), "vm");
  MonitorProxy proxy(world.folder().File("proxy"), world.Socket("vm"));
  ASSERT_TRUE(world.Register("vm", world.folder().File("proxy")).ok());
  ASSERT_TRUE(world.WaitForState("vm", v1::INSTANCE_STATE_READY));
  ASSERT_TRUE(world.StartBackup("vm", "job", /*slow=*/true).ok());

  for (const std::string& garbage :
       {std::string("\xff\xfe\x01\n"), std::string("{\"return\": {}}\n"),
        std::string("{\"event\": 5}\n"), std::string(300'000, '[') + "\n"}) {
    const auto [was_ready, before] = world.WaitFor(
        "vm", [](const v1::Instance& now) { return now.state() == v1::INSTANCE_STATE_READY; });
    ASSERT_TRUE(was_ready);
    proxy.Inject(garbage);
    const auto [again, after] = world.WaitFor("vm", [&](const v1::Instance& now) {
      return now.state() == v1::INSTANCE_STATE_READY &&
             now.counters().connections() > before.counters().connections();
    });
    ASSERT_TRUE(again) << after.ShortDebugString();
    EXPECT_TRUE(QueryJobs(world, "other").ok());
  }
  const auto jobs = QueryJobs(world, "vm");
  ASSERT_TRUE(jobs.ok()) << jobs;
  EXPECT_EQ(jobs->jobs_size(), 1);
}

TEST_P(BridgeFaultTest, WhatIsNoMonitorFailsWithTheReasonAndHarmsNobody) {
  BridgeWorld world;
  Start(world, "other");
  qmp::FakeMonitor nonsense(world.Socket("nonsense"), "220 mail.example ESMTP\r\n");
  ASSERT_TRUE(world.Register("nonsense").ok());
  const auto [came, instance] = world.WaitFor(
      "nonsense", [](const v1::Instance& now) { return now.state() == v1::INSTANCE_STATE_FAILED; });
  ASSERT_TRUE(came) << instance.ShortDebugString();
  EXPECT_THAT(instance.error(), HasSubstr("no valid JSON"));
  EXPECT_THAT(instance.error(), Not(HasSubstr("mail.example"))) << "a stranger's words";
  EXPECT_THAT(QueryJobs(world, "nonsense").refusal.code,
              AnyOf(absl::StatusCode::kUnavailable, absl::StatusCode::kFailedPrecondition));
  EXPECT_TRUE(QueryJobs(world, "other").ok());
}

INSTANTIATE_TEST_SUITE_P(, BridgeFaultTest, ::testing::ValuesIn(QemuBuild::All()),
                         [](const auto& info) { return info.param.name(); });

}  // namespace
}  // namespace tidemark::test
