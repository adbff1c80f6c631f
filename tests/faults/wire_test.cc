// The wire against real QEMUs.
#include <string>

#include "adapters/qmp/connection.h"
#include "adapters/qmp/testing/recorder.h"
#include "adapters/qmp/testing/socket_folder.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/process.h"
#include "tests/support/qemu_build.h"
#include "tests/support/storage_daemon_process.h"

namespace tidemark::test {
namespace {

using qmp::Connection;
using qmp::ConnectionLimits;
using qmp::Json;
using qmp::Reply;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class WireTest : public ::testing::TestWithParam<QemuBuild> {
 protected:
  ~WireTest() override {
    if (connection_ == nullptr) return;
    connection_->Close(absl::OkStatus());
    EXPECT_TRUE(recorder_->WaitFor("closed"));
  }

  void SetUp() override {
    if (!GetParam().Missing().empty()) GTEST_SKIP() << GetParam().Missing();
    daemon_ = std::make_unique<StorageDaemonProcess>(GetParam(), path_);
  }

  void OpenReady(const ConnectionLimits& limits = ConnectionLimits()) {
    connection_ = Connection::Open(loop_, workers_, *qmp::MonitorAddress::Parse("unix:" + path_),
                                   recorder_, limits);
    ASSERT_TRUE(recorder_->WaitForReady());
  }
  Reply Run(const std::string& command, Json arguments = Json()) {
    const std::string name = command + std::to_string(++run_);
    connection_->Execute(command, std::move(arguments), recorder_->Note(name));
    return recorder_->ReplyOf(name);
  }
  void AddNullNode(const std::string& node) {
    const Reply reply =
        Run("blockdev-add",
            {{"driver", "null-co"}, {"node-name", node}, {"size", 1 << 20}, {"read-zeroes", true}});
    ASSERT_TRUE(reply.ok()) << reply.error->desc;
  }

  // Those of the only job; pauses that QEMU makes by itself are left out.
  std::vector<std::string> States() {
    std::vector<std::string> states = {""};
    for (const Json& event : recorder_->events()) {
      if (event["event"] != "JOB_STATUS_CHANGE") continue;
      const std::string state = event["data"]["status"];
      if (state != "paused" && state != states.back()) states.push_back(state);
    }
    return states;
  }

  const qmp::SocketFolder folder_;
  const std::string path_ = folder_.File("qmp");
  std::unique_ptr<StorageDaemonProcess> daemon_;
  const std::shared_ptr<qmp::Recorder> recorder_ = std::make_shared<qmp::Recorder>();
  qmp::IoLoop loop_;
  WorkerPool workers_{"worker", 2};
  std::shared_ptr<Connection> connection_;
  int run_ = 0;
};

TEST_P(WireTest, TheGreetingNamesTheQemuAtTheOtherEnd) {
  OpenReady();
  EXPECT_THAT(recorder_->greeting().version,
              StartsWith(GetParam().name() == "Qemu100" ? "10." : "7."));
  EXPECT_EQ(recorder_->greeting().peer_pid, daemon_->pid());
  EXPECT_EQ(connection_->surprise_count(), 0U);
}

TEST_P(WireTest, TheWholeSchemaComesThroughAWorker) {
  OpenReady();
  const Reply reply = Run("query-qmp-schema");
  ASSERT_TRUE(reply.ok());
  EXPECT_GT(reply.value.size(), 400U);
  EXPECT_GT(reply.value.dump().size(), qmp::kLoopLineBytesMax);
}

TEST_P(WireTest, ErrorsAndExactNumbersComeBack) {
  OpenReady();
  const Reply refused = Run("blockdev-del", {{"node-name", "none"}});
  ASSERT_TRUE(refused.error.has_value());
  EXPECT_EQ(refused.error->error_class, "GenericError");
  EXPECT_THAT(refused.error->desc, HasSubstr("none"));
  AddNullNode("n0");
  const Reply nodes = Run("query-named-block-nodes");
  ASSERT_TRUE(nodes.ok());
  EXPECT_EQ(nodes.value[0]["image"]["virtual-size"], 1 << 20);
}

TEST_P(WireTest, AJobsEventsComeInOrderAroundTheReplies) {
  OpenReady();
  AddNullNode("source");
  AddNullNode("target");
  const Reply started = Run("blockdev-backup", {{"job-id", "j"},
                                                {"device", "source"},
                                                {"target", "target"},
                                                {"sync", "full"},
                                                {"auto-dismiss", false}});
  ASSERT_TRUE(started.ok());
  ASSERT_TRUE(recorder_->WaitFor("event BLOCK_JOB_COMPLETED"));
  for (int count = 1; States().back() != "concluded"; ++count) {
    ASSERT_TRUE(recorder_->WaitFor("event JOB_STATUS_CHANGE", count));
  }
  ASSERT_TRUE(Run("job-dismiss", {{"id", "j"}}).ok());
  EXPECT_THAT(States(),
              ElementsAre("", "created", "running", "waiting", "pending", "concluded", "null"));
}

TEST_P(WireTest, AKilledQemuIsKnownToBeGone) {
  OpenReady();
  EXPECT_FALSE(connection_->peer_has_exited());
  daemon_->Kill();
  EXPECT_EQ(recorder_->Cause(), "peer-closed");
  EXPECT_TRUE(connection_->peer_has_exited());
}

TEST_P(WireTest, AStoppedQemuIsSilentAndNotGone) {
  ConnectionLimits limits;
  limits.silence_max = absl::Milliseconds(100);
  OpenReady(limits);
  daemon_->Freeze();
  const Reply reply = Run("query-jobs");
  EXPECT_EQ(MetadataOf(reply.status, "outcome"), "unknown");
  EXPECT_EQ(recorder_->Cause(), "silent");
  EXPECT_FALSE(connection_->peer_has_exited());
  daemon_->Thaw();
  // Once it runs again it serves the next connection; on a busy machine perhaps the one after it.
  std::shared_ptr<qmp::Recorder> recorder;
  std::shared_ptr<Connection> next;
  do {
    recorder = std::make_shared<qmp::Recorder>();
    next = Connection::Open(loop_, workers_, connection_->address(), recorder);
    ASSERT_TRUE(recorder->WaitForAny({"ready", "closed"}));
  } while (recorder->story().front() != "ready");
  next.reset();
  EXPECT_TRUE(recorder->WaitFor("closed"));
}

TEST_P(WireTest, ASecondClientIsTurnedAwayByTheTimeLimit) {
  OpenReady();
  ConnectionLimits limits;
  limits.handshake_max = absl::Milliseconds(100);
  const auto recorder = std::make_shared<qmp::Recorder>();
  const auto second = Connection::Open(loop_, workers_, connection_->address(), recorder, limits);
  EXPECT_EQ(recorder->Cause(), "busy");
  EXPECT_TRUE(Run("query-version").ok());
}

// QMP is a stream of JSON values; with pretty=on each has many lines.
TEST_P(WireTest, WhatAMonitorWritesPrettilyIsReadAsWell) {
  const std::string path = folder_.File("pretty");
  std::vector<std::string> command = StorageDaemonCommand(GetParam(), path);
  command.back() += ",pretty=on";
  const Process daemon(command, path + ".log");
  std::shared_ptr<qmp::Recorder> recorder;
  do {
    recorder = std::make_shared<qmp::Recorder>();
    connection_ =
        Connection::Open(loop_, workers_, *qmp::MonitorAddress::Parse("unix:" + path), recorder);
    ASSERT_TRUE(recorder->WaitForAny({"ready", "closed"}));
  } while (recorder->story().front() != "ready");
  EXPECT_EQ(recorder->greeting().peer_pid, daemon.pid());
  const auto run = [&](const std::string& command, Json arguments = Json()) {
    connection_->Execute(command, std::move(arguments), recorder->Note(command));
    return recorder->ReplyOf(command);
  };
  EXPECT_GT(run("query-qmp-schema").value.size(), 400U);
  const Reply refused = run("blockdev-del", {{"node-name", "a \"quoted\"\nname"}});
  ASSERT_TRUE(refused.error.has_value());
  EXPECT_THAT(refused.error->desc, HasSubstr("a \"quoted\"\nname"));
  ASSERT_TRUE(
      run("blockdev-create",
          {{"job-id", "j"},
           {"options", {{"driver", "file"}, {"filename", folder_.File("new")}, {"size", 65536}}}})
          .ok());
  ASSERT_TRUE(recorder->WaitFor("event JOB_STATUS_CHANGE", 4));
  EXPECT_EQ(connection_->surprise_count(), 0U);
  connection_->Close(absl::OkStatus());
  EXPECT_TRUE(recorder->WaitFor("closed"));
  connection_ = nullptr;
}

INSTANTIATE_TEST_SUITE_P(, WireTest, ::testing::ValuesIn(QemuBuild::All()),
                         [](const auto& info) { return info.param.name(); });

}  // namespace
}  // namespace tidemark::test
