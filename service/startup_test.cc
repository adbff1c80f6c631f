#include "service/startup.h"

#include "absl/strings/match.h"
#include "engine/backend/testing/fake_backend.h"
#include "engine/base/error.h"
#include "engine/base/executor.h"
#include "engine/base/lookup_pool.h"
#include "engine/base/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "service/dispatch/testing/map_router.h"
#include "service/stop_request.h"
#include "tidemark/block/v1/node.pb.h"

namespace tidemark {
namespace {

using ::testing::ElementsAre;

std::string Refusal(const std::string& json) {
  const auto requests = ParseStartup(json);
  return requests.ok() ? "accepted" : std::string(requests.status().message());
}

TEST(Startup, AMethodIsNamedByRpcByItsOwnNameOrByQmp) {
  const auto requests = ParseStartup(R"([
    {"method": "tidemark.block.v1.NodeService/BlockdevAdd"},
    {"method": "BlockdevDel"},
    {"method": "nbd-server-stop"}])");
  ASSERT_TRUE(requests.ok()) << requests.status();
  ASSERT_EQ(requests->size(), 3u);
  EXPECT_EQ((*requests)[0].command->qmp_name, "blockdev-add");
  EXPECT_EQ((*requests)[1].command->qmp_name, "blockdev-del");
  EXPECT_EQ((*requests)[2].command->qmp_name, "nbd-server-stop");
}

TEST(Startup, ABodyIsProtobufsJson) {
  const auto requests = ParseStartup(R"([{"method": "BlockdevAdd", "body":
      {"options": {"nodeName": "n", "file": {"filename": "/disk"}}}}])");
  ASSERT_TRUE(requests.ok()) << requests.status();
  const auto& body = static_cast<const block::v1::BlockdevAddRequest&>(*requests->at(0).body);
  EXPECT_EQ(body.options().node_name(), "n");
  EXPECT_EQ(body.options().file().filename(), "/disk");
}

TEST(Startup, WhatIsWrongIsNamedByIndexAndMethod) {
  EXPECT_TRUE(absl::StrContains(Refusal("{}"), "not a JSON list"));
  EXPECT_TRUE(absl::StrContains(Refusal("["), "not a JSON list"));
  EXPECT_TRUE(absl::StrContains(Refusal("[7]"), "request 0"));
  EXPECT_TRUE(absl::StrContains(Refusal(R"([{"method": "NoSuch"}])"), "request 0 (NoSuch)"));
  EXPECT_TRUE(absl::StrContains(Refusal(R"([{"method": "BlockdevDel", "bdy": {}}])"), "'bdy'"));
  EXPECT_TRUE(absl::StrContains(
      Refusal(R"([{"method": "BlockdevDel"}, {"method": "BlockdevDel", "body": {"nod": 1}}])"),
      "request 1 (BlockdevDel)"));
}

class RunStartupTest : public testing::Test {
 protected:
  RunStartupTest() { router_.Set("", fake_); }
  absl::Status Run(const std::string& json) {
    const auto requests = ParseStartup(json);
    EXPECT_TRUE(requests.ok()) << requests.status();
    return RunStartup(*requests, dispatcher_, log_, stop_);
  }

  StopRequest stop_;
  WorkerPool executor_{"test", 1};
  backend::EventLog log_{SystemClock(), executor_};
  PathPolicy paths_;
  dispatch::MapRouter router_;
  LookupPool lookups_{executor_};
  dispatch::Dispatcher dispatcher_{router_, log_, paths_, lookups_};
  std::shared_ptr<backend::FakeBackend> fake_ = std::make_shared<backend::FakeBackend>();
};

TEST_F(RunStartupTest, RequestsAreSentInOrder) {
  EXPECT_TRUE(Run(R"([{"method": "BlockdevDel", "body": {"nodeName": "n"}},
                      {"method": "NbdServerStop"}])")
                  .ok());
  EXPECT_THAT(fake_->calls(), ElementsAre("blockdev-del", "nbd-server-stop"));
}

TEST_F(RunStartupTest, TheFirstThatFailsEndsItAndIsNamed) {
  fake_->SetAnswer([](const backend::Command& command, const auto&, auto*) {
    return command.qmp_name == "nbd-server-stop"
               ? Error(Reason::kNbdServerNotRunning, "no server runs")
               : absl::OkStatus();
  });
  const absl::Status status = Run(R"([{"method": "BlockdevDel", "body": {"nodeName": "n"}},
                                      {"method": "NbdServerStop"},
                                      {"method": "BlockdevDel", "body": {"nodeName": "n"}}])");
  EXPECT_EQ(status.message(), "Startup request 1 (NbdServerStop): no server runs");
  EXPECT_EQ(fake_->calls().size(), 2u);
}

TEST_F(RunStartupTest, AVirtualMachineThatIsNotReachedYetIsWaitedFor) {
  int tries = 0;
  fake_->SetAnswer([&](const backend::Command&, const auto&, auto*) {
    if (++tries > 2) return absl::OkStatus();
    // It becomes reachable, or changes otherwise, while nobody waits.
    backend::Event event;
    event.mutable_instance_state_change()->mutable_instance()->set_id("vm");
    log_.Append("vm", event);
    return Error(Reason::kInstanceUnreachable, "not yet");
  });
  EXPECT_TRUE(Run(R"([{"method": "NbdServerStop"}])").ok());
  EXPECT_EQ(tries, 3);
}

// These two end at all, though the wait has no other end.
TEST_F(RunStartupTest, TheOrderToStopEndsTheWaitForAVirtualMachine) {
  fake_->SetAnswer([this](const backend::Command&, const auto&, auto*) {
    stop_.Make();
    return Error(Reason::kInstanceUnreachable, "not yet");
  });
  const absl::Status status = RunStartup(*ParseStartup(R"([{"method": "NbdServerStop"}])"),
                                         dispatcher_, log_, stop_, absl::InfiniteDuration());
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "request 0")) << status;
}

TEST_F(RunStartupTest, TheOrderToStopEndsTheWaitForAnAnswer) {
  WorkerPool hung("hung", 1);
  backend::Backend::Done answer;
  Notification asked;
  fake_->SetAsyncAnswer([&](backend::Backend::Done done) {
    answer = std::move(done);
    asked.Notify();
  });
  hung.Post([&] {
    asked.Wait();
    stop_.Make();
  });
  const absl::Status status = Run(R"([{"method": "NbdServerStop"}, {"method": "NbdServerStop"}])");
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled) << status;
  EXPECT_EQ(fake_->calls().size(), 1u);
  answer(absl::OkStatus());  // Long after: nobody is there.
}

TEST_F(RunStartupTest, RequestsAreValidatedLikeThoseOfClients) {
  const absl::Status status = Run(R"([{"method": "BlockdevDel"}])");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StrContains(status.message(), "request 0")) << status;
  EXPECT_TRUE(fake_->calls().empty());
}

}  // namespace
}  // namespace tidemark
