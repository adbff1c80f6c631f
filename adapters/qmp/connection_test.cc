#include "adapters/qmp/connection.h"

#include <unistd.h>

#include <atomic>
#include <thread>

#include "adapters/qmp/testing/fake_monitor.h"
#include "adapters/qmp/testing/recorder.h"
#include "adapters/qmp/testing/socket_folder.h"
#include "engine/base/error.h"
#include "engine/base/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark::qmp {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// One loop, two workers, a monitor and a connection to it.
class ConnectionTest : public ::testing::Test {
 protected:
  ~ConnectionTest() override {
    if (connection_ == nullptr) return;
    connection_->Close(absl::OkStatus());
    EXPECT_TRUE(recorder_->WaitFor("closed"));
  }

  static MonitorAddress AddressOf(const std::string& path) {
    return *MonitorAddress::Parse("unix:" + path);
  }

  void Open(const ConnectionLimits& limits = ConnectionLimits()) {
    connection_ = Connection::Open(loop_, workers_, AddressOf(path_), recorder_, limits);
  }

  void OpenReady(const ConnectionLimits& limits = ConnectionLimits()) {
    Open(limits);
    ASSERT_TRUE(recorder_->WaitForReady());
  }

  void Execute(const std::string& command, Json arguments = Json()) {
    connection_->Execute(command, std::move(arguments), recorder_->Note(command));
  }

  // All that was sent before has been told when this returns.
  void Settle() {
    const std::string name = "settle" + std::to_string(++settled_);
    connection_->Execute("query-version", Json(), recorder_->Note(name));
    ASSERT_TRUE(recorder_->ReplyOf(name).ok());
  }

  const SocketFolder folder_;
  const std::string path_ = folder_.File("qmp");
  FakeMonitor monitor_{path_};
  const std::shared_ptr<Recorder> recorder_ = std::make_shared<Recorder>();
  IoLoop loop_;
  WorkerPool workers_{"worker", 2};
  std::shared_ptr<Connection> connection_;
  int settled_ = 0;
};

TEST_F(ConnectionTest, AGreetedConnectionIsReadyAndKnowsTheVersion) {
  OpenReady();
  const Greeting greeting = recorder_->greeting();
  EXPECT_EQ(greeting.version, "10.0.2");
  EXPECT_EQ(greeting.package, "fake");
  EXPECT_TRUE(greeting.oob);
  EXPECT_EQ(greeting.peer_pid, getpid());
  EXPECT_EQ(monitor_.CountOf("qmp_capabilities"), 1);
}

TEST_F(ConnectionTest, ACommandsValueComesBack) {
  monitor_.Answer("query-name", Json{{"name", "vm \u00e9"}});
  OpenReady();
  Execute("query-name");
  const Reply reply = recorder_->ReplyOf("query-name");
  ASSERT_TRUE(reply.ok());
  EXPECT_EQ(reply.value, (Json{{"name", "vm \u00e9"}}));
}

TEST_F(ConnectionTest, ArgumentsAreSentAsTheyAre) {
  OpenReady();
  const Json arguments = {{"node", "a"}, {"size", UINT64_MAX}, {"least", INT64_MIN}};
  Execute("block_resize", arguments);
  EXPECT_EQ(monitor_.WaitForCommand("block_resize")["arguments"], arguments);
}

TEST_F(ConnectionTest, AnErrorOfQemuComesBackInItsWords) {
  monitor_.Fail("job-pause", "GenericError", "Job not found");
  OpenReady();
  Execute("job-pause");
  const Reply reply = recorder_->ReplyOf("job-pause");
  EXPECT_TRUE(reply.status.ok());
  ASSERT_TRUE(reply.error.has_value());
  EXPECT_EQ(reply.error->error_class, "GenericError");
  EXPECT_EQ(reply.error->desc, "Job not found");
}

TEST_F(ConnectionTest, RepliesMayComeInAnotherOrder) {
  monitor_.Hold("one");
  monitor_.Hold("two");
  OpenReady();
  Execute("one");
  Execute("two");
  const Json one = monitor_.WaitForCommand("one");
  monitor_.Reply(monitor_.WaitForCommand("two"), 2);
  EXPECT_EQ(recorder_->ReplyOf("two").value, 2);
  monitor_.Reply(one, 1);
  EXPECT_EQ(recorder_->ReplyOf("one").value, 1);
}

TEST_F(ConnectionTest, EventsAndRepliesAreToldInTheOrderOfTheWire) {
  monitor_.Hold("go");
  OpenReady();
  Execute("go");
  const Json command = monitor_.WaitForCommand("go");
  monitor_.SendEvent("BEFORE", Json::object());
  monitor_.Reply(command, Json::object());
  monitor_.SendEvent("AFTER", {{"device", "d"}});
  ASSERT_TRUE(recorder_->WaitFor("event AFTER"));
  EXPECT_THAT(recorder_->story(), ElementsAre("ready", "event BEFORE", "reply go", "event AFTER"));
  EXPECT_EQ(recorder_->events()[1]["data"]["device"], "d");
}

TEST_F(ConnectionTest, EventsThatComeBeforeReadinessAreToldAfterIt) {
  monitor_.Hold("qmp_capabilities");
  Open();
  const Json command = monitor_.WaitForCommand("qmp_capabilities");
  monitor_.SendEvent("EARLY", Json::object());
  monitor_.Reply(command, Json::object());
  ASSERT_TRUE(recorder_->WaitFor("event EARLY"));
  EXPECT_THAT(recorder_->story(), ElementsAre("ready", "event EARLY"));
}

TEST_F(ConnectionTest, EventsThatComeBeforeTheGreetingAreToldAfterReadiness) {
  FakeMonitor starting(folder_.File("starting"),
                       "{\"event\": \"EARLY\"}\r\n" + FakeMonitor::DefaultGreeting());
  connection_ = Connection::Open(loop_, workers_, AddressOf(starting.path()), recorder_);
  ASSERT_TRUE(recorder_->WaitFor("event EARLY"));
  EXPECT_THAT(recorder_->story(), ElementsAre("ready", "event EARLY"));
  connection_->Close(absl::OkStatus());
  EXPECT_TRUE(recorder_->WaitFor("closed"));
}

// As QEMU does with pretty=on.
TEST_F(ConnectionTest, AValueMayBeSpreadOverLines) {
  const std::string greeting = Json::parse(FakeMonitor::DefaultGreeting()).dump(4) + "\r\n";
  FakeMonitor pretty(folder_.File("pretty"), greeting);
  pretty.Hold("query-name");
  connection_ = Connection::Open(loop_, workers_, AddressOf(pretty.path()), recorder_);
  ASSERT_TRUE(recorder_->WaitForReady());
  Execute("query-name");
  Json reply = {{"return", {{"name", "vm"}}}, {"id", pretty.WaitForCommand("query-name")["id"]}};
  ASSERT_TRUE(pretty.SendBytes(reply.dump(4) + "\r\n"));
  EXPECT_EQ(recorder_->ReplyOf("query-name").value, (Json{{"name", "vm"}}));
  EXPECT_EQ(connection_->surprise_count(), 0u);
  connection_->Close(absl::OkStatus());
  EXPECT_TRUE(recorder_->WaitFor("closed"));
}

TEST_F(ConnectionTest, AQemuThatGoesIsAskedNothingThatNobodyWants) {
  const auto execute_own = [&](const std::string& name) {
    connection_->ExecuteOwn("query-version", Json(), recorder_->Note(name));
    return recorder_->ReplyOf(name);
  };
  OpenReady();
  EXPECT_TRUE(execute_own("before").ok());
  ASSERT_TRUE(monitor_.SendEvent("SHUTDOWN", {{"guest", false}}));
  ASSERT_TRUE(recorder_->WaitFor("event SHUTDOWN"));
  EXPECT_EQ(MetadataOf(execute_own("while it goes").status, "outcome"), "not-sent");
  Settle();  // What a client wants is sent.
  // It was -no-shutdown.
  ASSERT_TRUE(monitor_.SendEvent("STOP", Json::object()));
  ASSERT_TRUE(recorder_->WaitFor("event STOP"));
  EXPECT_TRUE(execute_own("after").ok());
}

TEST_F(ConnectionTest, AReplyOfTwelveMegabytesKeepsItsPlaceAmongTheOthers) {
  Json big = Json::array();
  for (int i = 0; i < 12'000; ++i) big.push_back(std::string(1000, 'x'));
  OpenReady();
  monitor_.Hold("big");
  monitor_.Hold("last");
  Execute("big");
  Execute("last");
  const Json command = monitor_.WaitForCommand("big");
  const Json last = monitor_.WaitForCommand("last");
  monitor_.SendEvent("BEFORE", Json::object());
  monitor_.Reply(command, big);
  monitor_.SendEvent("AFTER", Json::object());
  monitor_.Reply(last, std::string(100'000, 'y'));
  ASSERT_TRUE(recorder_->WaitFor("reply last"));
  EXPECT_THAT(recorder_->story(),
              ElementsAre("ready", "event BEFORE", "reply big", "event AFTER", "reply last"));
  EXPECT_EQ(recorder_->ReplyOf("big").value, big);
}

TEST_F(ConnectionTest, HalfLinesAreKeptUntilTheyAreWhole) {
  OpenReady();
  for (const char* piece : {"{\"ev", "ent\": \"A\"", "}", "\r", "\n{\"event\": \"B\"}\n{"}) {
    monitor_.SendBytes(piece);
  }
  ASSERT_TRUE(recorder_->WaitFor("event B"));
  monitor_.SendBytes("\"event\": \"C\"}\n");
  ASSERT_TRUE(recorder_->WaitFor("event C"));
  EXPECT_THAT(recorder_->story(), ElementsAre("ready", "event A", "event B", "event C"));
}

TEST_F(ConnectionTest, CommandsThatThePeerDoesNotTakeWaitAndThenGoOutWhole) {
  OpenReady();
  monitor_.StopReading();
  // More than a socket holds.
  const std::string text(1 << 20, 'a');
  for (int i = 0; i < 4; ++i) Execute("put" + std::to_string(i), {{"text", text}});
  monitor_.Answer("put3", Json(3));
  monitor_.Resume();
  EXPECT_EQ(recorder_->ReplyOf("put3").value, 3);
  EXPECT_EQ(monitor_.WaitForCommand("put2")["arguments"]["text"], text);
}

TEST_F(ConnectionTest, WhatWouldWaitBeyondTheLimitIsRefused) {
  OpenReady();
  monitor_.StopReading();
  const std::string text(1 << 20, 'a');
  for (int i = 0; i < 20; ++i) Execute("put" + std::to_string(i), {{"text", text}});
  const absl::Status refusal = recorder_->ReplyOf("put19").status;
  EXPECT_EQ(DetailsOf(refusal)->reason, Reason::kLimitReached);
  EXPECT_THAT(std::string(refusal.message()), HasSubstr("put19"));
}

TEST_F(ConnectionTest, TextThatIsNotUtf8IsRefusedBeforeItIsSent) {
  OpenReady();
  Execute("blockdev-add", {{"filename", "\xff\xfe"}});
  EXPECT_EQ(recorder_->ReplyOf("blockdev-add").status.code(), absl::StatusCode::kInvalidArgument);
  Settle();
  EXPECT_EQ(monitor_.CountOf("blockdev-add"), 0);
}

TEST_F(ConnectionTest, ACommandBeforeReadinessIsNotSent) {
  monitor_.Hold("qmp_capabilities");
  Open();
  Execute("query-name");
  const absl::Status status = recorder_->ReplyOf("query-name").status;
  EXPECT_EQ(DetailsOf(status)->reason, Reason::kConnectionLost);
  EXPECT_EQ(MetadataOf(status, "outcome"), "not-sent");
}

TEST_F(ConnectionTest, CloseEndsWaitingCommandsBeforeItIsTold) {
  monitor_.Hold("slow");
  OpenReady();
  Execute("slow");
  monitor_.WaitForCommand("slow");
  connection_->Close(absl::CancelledError("enough"));
  connection_->Close(absl::CancelledError("more than enough"));
  EXPECT_EQ(recorder_->Why(), absl::CancelledError("enough"));
  EXPECT_THAT(recorder_->story(), ElementsAre("ready", "reply slow", "closed"));
  const absl::Status status = recorder_->ReplyOf("slow").status;
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(MetadataOf(status, "outcome"), "unknown");
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("slow may or may not have been carried out"));
}

TEST_F(ConnectionTest, ACommandAfterTheEndIsNotSent) {
  OpenReady();
  connection_->Close(absl::CancelledError("enough"));
  ASSERT_TRUE(recorder_->WaitFor("closed"));
  Execute("late");
  EXPECT_EQ(MetadataOf(recorder_->ReplyOf("late").status, "outcome"), "not-sent");
}

TEST_F(ConnectionTest, DroppingTheLastReferenceCloses) {
  monitor_.Hold("slow");
  OpenReady();
  Execute("slow");
  monitor_.WaitForCommand("slow");
  connection_.reset();
  EXPECT_EQ(recorder_->Cause(), "local");
  EXPECT_EQ(recorder_->ReplyOf("slow").status.code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(monitor_.WaitForEnds(1));
}

TEST_F(ConnectionTest, AListenerThatIsGoneIsNotCalled) {
  auto listener = std::make_shared<Recorder>();
  const auto connection =
      Connection::Open(loop_, workers_, AddressOf(path_), listener, ConnectionLimits());
  ASSERT_TRUE(listener->WaitForReady());
  listener.reset();
  monitor_.SendEvent("E", Json::object());
  Notification ended;
  connection->Execute("query-version", Json(), [&](const Reply&) { ended.Notify(); });
  ended.Wait();
}

TEST_F(ConnectionTest, CallbacksMayExecuteAndClose) {
  OpenReady();
  connection_->Execute("query-version", Json(), [this](const Reply&) {
    connection_->Execute("query-version", Json(), [this](const Reply& reply) {
      connection_->Close(reply.ok() ? absl::CancelledError("as told") : reply.status);
    });
  });
  EXPECT_EQ(recorder_->Why(), absl::CancelledError("as told"));
}

TEST_F(ConnectionTest, ManyThreadsExecuteAtOnceAndEachCommandEndsOnce) {
  OpenReady();
  constexpr int kThreads = 4;
  constexpr int kEach = 200;
  std::atomic<int> answered = 0;
  Notification all;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < kEach; ++j) {
        connection_->Execute("query-version", Json(), [&](const Reply& reply) {
          EXPECT_TRUE(reply.ok());
          if (++answered == kThreads * kEach) all.Notify();
        });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(all.WaitFor(absl::Minutes(1)));
}

TEST_F(ConnectionTest, CommandsThatRaceWithTheEndAllEndOnce) {
  for (int round = 0; round < 20; ++round) {
    const auto recorder = std::make_shared<Recorder>();
    auto connection = Connection::Open(loop_, workers_, AddressOf(path_), recorder);
    ASSERT_TRUE(recorder->WaitForReady());
    std::atomic<int> ended = 0;
    Notification all;
    std::thread executing([&] {
      for (int i = 0; i < 100; ++i) {
        connection->Execute("query-version", Json(), [&](const Reply&) {
          if (++ended == 100) all.Notify();
        });
      }
    });
    if (round % 2 == 0) monitor_.Hangup();
    connection->Close(absl::CancelledError("race"));
    executing.join();
    EXPECT_TRUE(all.WaitFor(absl::Minutes(1)));
    EXPECT_TRUE(recorder->WaitFor("closed"));
    EXPECT_EQ(recorder->story().back(), "closed");
  }
}

TEST_F(ConnectionTest, AnIdleMonitorIsAskedAndStaysConnected) {
  ConnectionLimits limits;
  limits.keepalive_interval = absl::Milliseconds(1);
  limits.silence_max = absl::InfiniteDuration();
  OpenReady(limits);
  EXPECT_FALSE(monitor_.WaitForCommand("query-version", 3).is_null());
  Settle();
}

}  // namespace
}  // namespace tidemark::qmp
