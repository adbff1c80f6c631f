// Peers that do not keep to the rules, stall, or go away.
#include <string>

#include "adapters/qmp/connection.h"
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
using ::testing::Not;

constexpr absl::Duration kShort = absl::Milliseconds(50);

class ConnectionHostileTest : public ::testing::Test {
 protected:
  ~ConnectionHostileTest() override {
    if (connection_ == nullptr) return;
    connection_->Close(absl::OkStatus());
    EXPECT_TRUE(recorder_->WaitFor("closed"));
  }

  void Open(const ConnectionLimits& limits = ConnectionLimits()) {
    connection_ = Connection::Open(loop_, workers_, *MonitorAddress::Parse("unix:" + path_),
                                   recorder_, limits);
  }
  void OpenReady(const ConnectionLimits& limits = ConnectionLimits()) {
    Open(limits);
    ASSERT_TRUE(recorder_->WaitForReady());
  }
  void Execute(const std::string& command) {
    connection_->Execute(command, Json(), recorder_->Note(command));
  }
  std::string OutcomeOf(const std::string& command) {
    return MetadataOf(recorder_->ReplyOf(command).status, "outcome");
  }
  std::string WhyClosed() { return std::string(recorder_->Why().message()); }

  const SocketFolder folder_;
  const std::string path_ = folder_.File("qmp");
  const std::shared_ptr<Recorder> recorder_ = std::make_shared<Recorder>();
  IoLoop loop_;
  WorkerPool workers_{"worker", 2};
  std::shared_ptr<Connection> connection_;
};

TEST_F(ConnectionHostileTest, NoSocketIsToldAsAbsent) {
  Open();
  EXPECT_EQ(recorder_->Cause(), "absent");
  EXPECT_EQ(DetailsOf(recorder_->Why())->reason, Reason::kInstanceUnreachable);
  EXPECT_THAT(recorder_->story(), ElementsAre("closed"));
}

TEST_F(ConnectionHostileTest, AMonitorThatDoesNotGreetIsPerhapsSomebodyElses) {
  FakeMonitor monitor(path_, "");
  ConnectionLimits limits;
  limits.handshake_max = kShort;
  Open(limits);
  EXPECT_EQ(recorder_->Cause(), "busy");
  EXPECT_THAT(WhyClosed(), HasSubstr("another client may hold it"));
  EXPECT_EQ(DetailsOf(recorder_->Why())->reason, Reason::kInstanceUnreachable);
}

TEST_F(ConnectionHostileTest, TheSecondClientOfAMonitorIsNotGreetedUntilTheFirstHasGone) {
  FakeMonitor monitor(path_);
  const auto first = std::make_shared<Recorder>();
  auto holder = Connection::Open(loop_, workers_, *MonitorAddress::Parse("unix:" + path_), first);
  ASSERT_TRUE(first->WaitForReady());
  ConnectionLimits limits;
  limits.handshake_max = kShort;
  Open(limits);
  EXPECT_EQ(recorder_->Cause(), "busy");

  const auto third = std::make_shared<Recorder>();
  auto next = Connection::Open(loop_, workers_, *MonitorAddress::Parse("unix:" + path_), third);
  holder.reset();
  EXPECT_TRUE(third->WaitForReady());
  next.reset();
  EXPECT_TRUE(first->WaitFor("closed"));
  EXPECT_TRUE(third->WaitFor("closed"));
}

TEST_F(ConnectionHostileTest, CapabilitiesThatAreNotAnsweredTimeOut) {
  FakeMonitor monitor(path_);
  monitor.Hold("qmp_capabilities");
  ConnectionLimits limits;
  // Time enough for the greeting, which it bounds too.
  limits.handshake_max = absl::Seconds(2);
  Open(limits);
  EXPECT_EQ(recorder_->Cause(), "timeout");
  EXPECT_THAT(WhyClosed(), HasSubstr("qmp_capabilities"));
}

TEST_F(ConnectionHostileTest, CapabilitiesThatAreRefusedEndTheConnection) {
  FakeMonitor monitor(path_);
  monitor.Fail("qmp_capabilities", "CommandNotFound", "never heard of it");
  Open();
  EXPECT_EQ(recorder_->Cause(), "garbage");
  EXPECT_THAT(WhyClosed(), HasSubstr("refused qmp_capabilities"));
  EXPECT_THAT(WhyClosed(), Not(HasSubstr("never heard of it")));
}

TEST_F(ConnectionHostileTest, APeerThatSpeaksAnotherProtocolIsClosed) {
  FakeMonitor monitor(path_, "220 mail.example ESMTP\r\n");
  Open();
  EXPECT_EQ(recorder_->Cause(), "garbage");
  EXPECT_THAT(WhyClosed(), HasSubstr("no valid JSON"));
  EXPECT_THAT(WhyClosed(), Not(HasSubstr("220")));
  EXPECT_THAT(WhyClosed(), Not(HasSubstr("mail.example")));
}

TEST_F(ConnectionHostileTest, EndlessEventsBeforeTheGreetingAreGarbage) {
  FakeMonitor monitor(path_, "{\"event\": \"E\"}\n");
  Open();
  ASSERT_TRUE(monitor.WaitForClients(1));
  while (monitor.SendEvent("E", Json::object())) continue;
  EXPECT_EQ(recorder_->Cause(), "garbage");
  EXPECT_THAT(recorder_->story(), ElementsAre("closed"));
}

TEST_F(ConnectionHostileTest, EndlessEventsBeforeReadinessAreGarbage) {
  FakeMonitor monitor(path_);
  monitor.Hold("qmp_capabilities");
  Open();
  monitor.WaitForCommand("qmp_capabilities");
  while (monitor.SendEvent("E", Json::object())) continue;
  EXPECT_EQ(recorder_->Cause(), "garbage");
}

// What a monitor may say that ends the connection, and a part of the reason.
class GarbageTest : public ConnectionHostileTest,
                    public ::testing::WithParamInterface<std::pair<std::string, const char*>> {};

TEST_P(GarbageTest, EndsTheConnectionWithTheReasonAndEveryCommand) {
  FakeMonitor monitor(path_);
  monitor.Hold("slow");
  OpenReady();
  Execute("slow");
  monitor.WaitForCommand("slow");
  monitor.SendBytes(GetParam().first + "\n");
  // Nothing that comes after it counts.
  monitor.SendEvent("LATER", Json::object());
  EXPECT_EQ(recorder_->Cause(), "garbage");
  EXPECT_THAT(WhyClosed(), HasSubstr(GetParam().second));
  EXPECT_LT(WhyClosed().size(), 1000U);
  EXPECT_EQ(DetailsOf(recorder_->Why())->reason, Reason::kConnectionLost);
  EXPECT_THAT(recorder_->story(), ElementsAre("ready", "reply slow", "closed"));
  EXPECT_EQ(OutcomeOf("slow"), "unknown");
}

std::string Deep(int depth) {
  return "{\"return\": " + std::string(depth, '[') + std::string(depth, ']') + ", \"id\": 1}";
}

INSTANTIATE_TEST_SUITE_P(
    Lines, GarbageTest,
    ::testing::Values(std::pair{std::string("\x01\x02\xff"), "no valid JSON"},
                      std::pair{std::string("[1, 2]"), "no object"},
                      std::pair{std::string("{\"hello\": 1}"), "neither greeting, event nor reply"},
                      std::pair{std::string("{\"return\": {}}"), "reply for no command"},
                      std::pair{std::string("{\"error\": {\"class\": \"C\"}, \"id\": 2}"),
                                "without class"},
                      std::pair{std::string("{\"event\": {}}"), "name is no string"},
                      std::pair{FakeMonitor::DefaultGreeting(), "something else than was its turn"},
                      std::pair{Deep(2'000), "nested deeper"},
                      std::pair{Deep(1'000'000), "nested deeper"},
                      std::pair{std::string("{\"return\": \"") + std::string(200'000, '\\') + "\"",
                                "no valid JSON"}));

TEST_F(ConnectionHostileTest, ALineBeyondTheLimitEndsTheConnection) {
  FakeMonitor monitor(path_);
  OpenReady();
  const std::string piece(4 << 20, 'x');
  size_t sent = 0;
  while (monitor.SendBytes(piece)) sent += piece.size();
  EXPECT_EQ(recorder_->Cause(), "garbage");
  EXPECT_THAT(WhyClosed(), HasSubstr("a value of more than"));
  EXPECT_LE(sent, kLineBytesMax + 2 * piece.size());
}

TEST_F(ConnectionHostileTest, RepliesForNobodyAreCountedAndDoNoHarm) {
  FakeMonitor monitor(path_);
  OpenReady();
  monitor.SendBytes("{\"return\": {}, \"id\": 99}\n{\"return\": {}, \"id\": \"x\"}\n\r\n");
  monitor.SendBytes("{\"error\": {\"class\": \"C\", \"desc\": \"d\"}, \"id\": -1}\n");
  Execute("query-version");
  EXPECT_TRUE(recorder_->ReplyOf("query-version").ok());
  EXPECT_EQ(connection_->surprise_count(), 3U);
}

TEST_F(ConnectionHostileTest, AReplyThatComesTwiceEndsItsCommandOnce) {
  FakeMonitor monitor(path_);
  monitor.Hold("one");
  OpenReady();
  Execute("one");
  const Json command = monitor.WaitForCommand("one");
  monitor.Reply(command, 1);
  monitor.Reply(command, 2);
  Execute("query-version");
  EXPECT_TRUE(recorder_->ReplyOf("query-version").ok());
  EXPECT_THAT(recorder_->story(), ElementsAre("ready", "reply one", "reply query-version"));
  EXPECT_EQ(recorder_->ReplyOf("one").value, 1);
}

TEST_F(ConnectionHostileTest, AClosedSocketEndsCommandsWithAnUnknownOutcome) {
  FakeMonitor monitor(path_);
  monitor.Hold("slow");
  OpenReady();
  Execute("slow");
  monitor.WaitForCommand("slow");
  monitor.Hangup();
  EXPECT_EQ(recorder_->Cause(), "peer-closed");
  EXPECT_EQ(recorder_->ReplyOf("slow").status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(OutcomeOf("slow"), "unknown");
  // Not a QEMU: it lives, or is not known.
  EXPECT_FALSE(connection_->peer_has_exited());
}

TEST_F(ConnectionHostileTest, WhatWasSentBeforeTheCloseIsStillTold) {
  FakeMonitor monitor(path_);
  OpenReady();
  monitor.SendEvent("LAST", Json::object());
  monitor.SendBytes("{\"event\": \"HALF");
  monitor.Hangup();
  EXPECT_EQ(recorder_->Cause(), "peer-closed");
  EXPECT_THAT(WhyClosed(), HasSubstr("in the middle of a value, 15 bytes"));
  EXPECT_THAT(recorder_->story(), ElementsAre("ready", "event LAST", "closed"));
}

TEST_F(ConnectionHostileTest, ACommandThatNeverLeftIsNotSent) {
  FakeMonitor monitor(path_);
  OpenReady();
  monitor.StopReading();
  // Fills the socket, then waits.
  const Json big = {{"text", std::string(4 << 20, 'a')}};
  connection_->Execute("half-sent", big, recorder_->Note("half-sent"));
  Execute("behind-it");
  monitor.Hangup();
  EXPECT_EQ(OutcomeOf("half-sent"), "unknown");
  EXPECT_EQ(OutcomeOf("behind-it"), "not-sent");
  EXPECT_EQ(recorder_->Cause(), "peer-closed");
}

TEST_F(ConnectionHostileTest, CloseDuringALongLineWaitsForItsWorker) {
  FakeMonitor monitor(path_);
  OpenReady();
  Notification entered, leave;
  connection_->Execute("query-version", Json(), [](const Reply&) {});
  monitor.Hold("big");
  connection_->Execute("big", Json(), [&](const Reply&) {
    entered.Notify();
    leave.Wait();
  });
  monitor.Reply(monitor.WaitForCommand("big"), std::string(1 << 20, 'x'));
  entered.Wait();
  connection_->Close(absl::CancelledError("now"));
  // The loop is free meanwhile, and has had its chance to end.
  Notification looped;
  loop_.Post([&] { looped.Notify(); });
  looped.Wait();
  EXPECT_THAT(recorder_->story(), ElementsAre("ready"));
  leave.Notify();
  EXPECT_EQ(recorder_->Why(), absl::CancelledError("now"));
}

TEST_F(ConnectionHostileTest, AnotherMonitorIsServedWhileAWorkerHasALongLine) {
  FakeMonitor slow(path_);
  FakeMonitor quick(folder_.File("quick"));
  OpenReady();
  const auto other = std::make_shared<Recorder>();
  auto connection =
      Connection::Open(loop_, workers_, *MonitorAddress::Parse("unix:" + quick.path()), other);
  ASSERT_TRUE(other->WaitForReady());
  Notification entered, leave;
  slow.Hold("big");
  connection_->Execute("big", Json(), [&, note = recorder_->Note("big")](const Reply& reply) {
    entered.Notify();
    leave.Wait();
    note(reply);
  });
  slow.Reply(slow.WaitForCommand("big"), std::string(1 << 20, 'x'));
  entered.Wait();
  connection->Execute("query-version", Json(), other->Note("quick"));
  EXPECT_TRUE(other->ReplyOf("quick").ok());
  leave.Notify();
  EXPECT_TRUE(recorder_->ReplyOf("big").ok());
  connection.reset();
  EXPECT_TRUE(other->WaitFor("closed"));
}

TEST_F(ConnectionHostileTest, ASilentPeerLosesTheConnectionWhenACommandWaits) {
  FakeMonitor monitor(path_);
  monitor.Hold("slow");
  ConnectionLimits limits;
  limits.silence_max = kShort;
  OpenReady(limits);
  Execute("slow");
  EXPECT_EQ(recorder_->Cause(), "silent");
  EXPECT_EQ(OutcomeOf("slow"), "unknown");
  EXPECT_THAT(recorder_->story(), ElementsAre("ready", "reply slow", "closed"));
}

TEST_F(ConnectionHostileTest, APeerThatSaysEverythingButTheAnswerIsSilent) {
  FakeMonitor monitor(path_);
  monitor.Hold("blockdev-add");
  ConnectionLimits limits;
  limits.silence_max = kShort;
  OpenReady(limits);
  connection_->Execute("blockdev-add", Json(), recorder_->Note("add"));
  for (int i = 0; i < 1'000'000 && monitor.SendEvent("E", Json::object()); ++i) {
    std::this_thread::yield();
  }
  EXPECT_EQ(recorder_->Cause(), "silent");
}

TEST_F(ConnectionHostileTest, AnEventThatNoQemuSendsIsDropped) {
  FakeMonitor monitor(path_);
  OpenReady();
  ASSERT_TRUE(monitor.SendEvent("HUGE", Json{{"text", std::string(kEventBytesMax, 'x')}}));
  ASSERT_TRUE(monitor.SendEvent("SMALL", Json::object()));
  EXPECT_TRUE(recorder_->WaitFor("event SMALL"));
  EXPECT_EQ(recorder_->events().size(), 1u);
}

// Sends a value that has no end, byte by byte, for as long as somebody takes it.
void Drip(FakeMonitor* monitor) {
  if (!monitor->SendBytes("{\"event\": \"")) return;
  while (monitor->SendBytes("x")) std::this_thread::yield();
}

TEST_F(ConnectionHostileTest, AHalfValueIsNoSignOfLife) {
  FakeMonitor monitor(path_);
  monitor.Hold("slow");
  ConnectionLimits limits;
  limits.silence_max = kShort;
  OpenReady(limits);
  Execute("slow");
  monitor.WaitForCommand("slow");
  Drip(&monitor);
  EXPECT_EQ(recorder_->Cause(), "silent");
  EXPECT_EQ(OutcomeOf("slow"), "unknown");
}

TEST_F(ConnectionHostileTest, AHalfValueHasATimeLimitWithoutAnyCommand) {
  FakeMonitor monitor(path_);
  ConnectionLimits limits;
  limits.silence_max = kShort;
  OpenReady(limits);
  Drip(&monitor);
  EXPECT_EQ(recorder_->Cause(), "silent");
  EXPECT_THAT(WhyClosed(), HasSubstr("has not finished a value"));
}

TEST_F(ConnectionHostileTest, ASilentPeerIsNoticedWhenIdleToo) {
  FakeMonitor monitor(path_);
  monitor.Hold("query-version");
  ConnectionLimits limits;
  limits.silence_max = kShort;
  limits.keepalive_interval = kShort;
  OpenReady(limits);
  EXPECT_EQ(recorder_->Cause(), "silent");
}

}  // namespace
}  // namespace tidemark::qmp
