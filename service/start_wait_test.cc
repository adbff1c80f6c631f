#include "service/start_wait.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "engine/base/clock.h"
#include "engine/base/executor.h"
#include "gtest/gtest.h"

namespace tidemark {
namespace {

// Nothing is saved before it is let go.
class HeldTail final : public backend::EventTail {
 public:
  absl::StatusOr<Saved> Load() override { return Saved(); }
  absl::Status Save(const std::vector<backend::EventPtr>&) override {
    asked.Notify();
    go.Wait();
    return absl::OkStatus();
  }
  void AddGap() override {}

  Notification asked;
  Notification go;
};

class WaitUntilShownTest : public testing::Test {
 protected:
  WaitUntilShownTest() {
    backend::EventLogOptions options;
    options.tail = tail_;
    options.saver = &saver_;
    log_ = std::make_unique<backend::EventLog>(SystemClock(), executor_, std::move(options));
  }
  ~WaitUntilShownTest() override { tail_->go.Notify(); }
  void Append() {
    backend::Event event;
    event.mutable_service_started()->set_version("1");
    log_->Append("", std::move(event));
  }

  WorkerPool executor_{"test", 2};
  SerialExecutor saver_{"saver"};
  const std::shared_ptr<HeldTail> tail_ = std::make_shared<HeldTail>();
  std::unique_ptr<backend::EventLog> log_;
  StopRequest stop_;
};

// A watch that began before would begin at 0, which clients cannot tell from nothing.
TEST_F(WaitUntilShownTest, NobodyIsLetInBeforeTheFirstEventIsShown) {
  Append();
  tail_->asked.Wait();
  bool is_let_in = false;
  Notification began;
  std::thread start([&] {
    began.Notify();
    EXPECT_TRUE(WaitUntilShown(*log_, stop_).ok());
    is_let_in = true;
    EXPECT_EQ(log_->shown(), 1u);
  });
  began.Wait();
  EXPECT_EQ(log_->shown(), 0u);
  tail_->go.Notify();
  start.join();
  EXPECT_TRUE(is_let_in);
}

TEST_F(WaitUntilShownTest, TheOrderToStopEndsTheWait) {
  Append();
  stop_.Make();
  EXPECT_TRUE(absl::IsCancelled(WaitUntilShown(*log_, stop_)));
}

TEST_F(WaitUntilShownTest, WhatIsShownIsNotWaitedFor) {
  EXPECT_TRUE(WaitUntilShown(*log_, stop_).ok());
}

TEST(RunUnlessStopped, GivesWhatTheActGave) {
  StopRequest stop;
  const auto text = RunUnlessStopped(
      stop, "it", []() -> absl::StatusOr<std::string> { return std::string("read"); });
  EXPECT_EQ(text.value(), "read");
  const auto error = RunUnlessStopped(
      stop, "it", []() -> absl::StatusOr<std::string> { return absl::NotFoundError("no file"); });
  EXPECT_EQ(error.status().message(), "no file");
}

TEST(RunUnlessStopped, TheOrderToStopLeavesAnActThatHangsAlone) {
  StopRequest stop;
  const auto go = std::make_shared<Notification>();
  const auto ended = std::make_shared<Notification>();
  const auto asked = std::make_shared<Notification>();
  std::thread signal([&stop, asked] {
    asked->Wait();
    stop.Make();
  });
  const auto text =
      RunUnlessStopped(stop, "the file", [go, ended, asked]() -> absl::StatusOr<std::string> {
        asked->Notify();
        go->Wait();
        ended->Notify();
        return std::string("late");
      });
  EXPECT_TRUE(absl::IsCancelled(text.status()));
  EXPECT_TRUE(absl::StrContains(text.status().message(), "the file"));
  signal.join();
  go->Notify();
  ended->Wait();
}

}  // namespace
}  // namespace tidemark
