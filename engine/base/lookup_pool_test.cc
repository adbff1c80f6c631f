#include "engine/base/lookup_pool.h"

#include <atomic>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/base/executor.h"
#include "engine/base/mutex.h"
#include "engine/base/notification.h"
#include "gtest/gtest.h"

namespace tidemark {
namespace {

// Its timers run out when the test says so.
class HeldTimers final : public Executor {
 public:
  explicit HeldTimers(Executor& runs) : runs_(runs) {}

  void Post(Task task) override { runs_.Post(std::move(task)); }
  void PostAfter(absl::Duration, Task task) override {
    MutexLock lock(&mutex_);
    held_.push_back(std::move(task));
  }
  void RunOut() {
    MutexLock lock(&mutex_);
    for (Task& task : held_) runs_.Post(std::move(task));
    held_.clear();
  }

 private:
  Executor& runs_;
  Mutex mutex_;
  std::vector<Task> held_ ABSL_GUARDED_BY(mutex_);
};

// Two places: /a and /b.
class LookupPoolTest : public testing::Test {
 protected:
  void MakePool(LookupPool::Limits limits = {}) {
    pool_ = std::make_unique<LookupPool>(answers_, std::vector<std::string>{"/a", "/b"}, limits);
  }
  void TearDown() override { hang_->Notify(); }

  std::future<absl::Status> Look(const std::string& path, LookupPool::Look look,
                                 absl::Duration time_max = absl::InfiniteDuration()) {
    auto answer = std::make_shared<std::promise<absl::Status>>();
    pool_->LookAtFile(
        path, std::move(look), [answer](absl::Status status) { answer->set_value(status); },
        time_max);
    return answer->get_future();
  }
  // Begun, and hanging until the test ends.
  std::future<absl::Status> Hang(const std::string& path,
                                 absl::Duration time_max = absl::InfiniteDuration()) {
    return Look(
        path,
        [hang = hang_] {
          hang->Wait();
          return absl::OkStatus();
        },
        time_max);
  }
  static absl::Status Quick() { return absl::OkStatus(); }

  const std::shared_ptr<Notification> hang_ = std::make_shared<Notification>();
  WorkerPool answers_{"answers", 1};
  std::unique_ptr<LookupPool> pool_;
};

TEST_F(LookupPoolTest, TellsWhatWasFound) {
  MakePool();
  EXPECT_EQ(Look("/a/x", Quick).get(), absl::OkStatus());
  EXPECT_EQ(Look("/a/x", [] { return absl::NotFoundError("gone"); }).get(),
            absl::NotFoundError("gone"));
}

TEST_F(LookupPoolTest, APlaceThatHangsTakesItsShareAndOthersGoOn) {
  MakePool({.running_max = 8, .share_max = 2});
  std::vector<std::future<absl::Status>> hung;
  for (int i = 0; i < 20; ++i) hung.push_back(Hang(absl::StrCat("/a/", i)));
  EXPECT_EQ(pool_->running_count(), 2);
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(Look("/b/x", Quick).get().ok());
}

TEST_F(LookupPoolTest, AHostThatHangsIsAPlaceOfItsOwn) {
  MakePool({.running_max = 8, .share_max = 1});
  const auto look = [this](const std::string& host, LookupPool::Look look) {
    auto answer = std::make_shared<std::promise<absl::Status>>();
    pool_->LookAtHost(
        host, std::move(look), [answer](absl::Status status) { answer->set_value(status); },
        absl::InfiniteDuration());
    return answer->get_future();
  };
  const auto hung = look("one", [hang = hang_] {
    hang->Wait();
    return absl::OkStatus();
  });
  EXPECT_TRUE(look("two", Quick).get().ok());
}

TEST_F(LookupPoolTest, WhoWaitsTooLongIsToldAndWhatIsLateIsNotHeardOf) {
  HeldTimers timers(answers_);
  LookupPool pool(timers, {"/a", "/b"}, {.share_max = 1});
  const auto begun = std::make_shared<Notification>();
  const auto ran = std::make_shared<Notification>();
  auto answer = std::make_shared<std::promise<absl::Status>>();
  auto answers = std::make_shared<std::atomic<int>>(0);
  pool.LookAtFile(
      "/a/x",
      [hang = hang_, begun, ran] {
        begun->Notify();
        hang->Wait();
        ran->Notify();
        return absl::OkStatus();
      },
      [answer, answers](absl::Status status) {
        if (++*answers == 1) answer->set_value(status);
      },
      absl::Seconds(5));
  begun->Wait();
  timers.RunOut();
  const absl::Status late = answer->get_future().get();
  EXPECT_EQ(late.code(), absl::StatusCode::kUnavailable);
  EXPECT_NE(late.message().find("/a/x"), absl::string_view::npos) << late;
  EXPECT_EQ(pool.running_count(), 1) << "it still counts";
  hang_->Notify();
  ran->Wait();
  // Behind it in the same share, so it is over.
  EXPECT_TRUE(pool.LookAndWait("/a/y", Quick).ok());
  EXPECT_EQ(*answers, 1);
}

TEST_F(LookupPoolTest, WhoMakesItSaysHowLongANameIsWaitedForUnlessACallDoes) {
  MakePool({.look_max = absl::Milliseconds(1)});
  const absl::Status late = pool_->LookAndWait("/a/x", [hang = hang_] {
    hang->Wait();
    return absl::OkStatus();
  });
  EXPECT_EQ(late.code(), absl::StatusCode::kUnavailable);
  EXPECT_NE(late.message().find("1ms"), absl::string_view::npos) << late;
  hang_->Notify();
}

TEST_F(LookupPoolTest, WhatIsNotWaitedForAnyMoreDoesNotBegin) {
  MakePool({.running_max = 1, .share_max = 1});
  auto first = Hang("/a/1");
  auto begun = std::make_shared<std::atomic<bool>>(false);
  auto late = Look(
      "/a/2",
      [begun] {
        *begun = true;
        return absl::OkStatus();
      },
      absl::Milliseconds(1));
  EXPECT_EQ(late.get().code(), absl::StatusCode::kUnavailable);
  hang_->Notify();
  EXPECT_TRUE(first.get().ok());
  EXPECT_TRUE(Look("/a/3", Quick).get().ok());
  EXPECT_FALSE(*begun);
}

TEST_F(LookupPoolTest, TooManyOfOnePlaceAreRefusedAtOnce) {
  MakePool({.running_max = 4, .share_max = 1, .place_max = 2});
  auto first = Hang("/a/1");
  auto second = Hang("/a/2");
  EXPECT_EQ(Hang("/a/3").get().code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(Look("/b/1", Quick).get().ok());
}

TEST_F(LookupPoolTest, AStopAnswersAllAndWaitsForNoneThatHangs) {
  MakePool();
  auto hung = Hang("/a/x");
  pool_->Stop();
  EXPECT_TRUE(HasReason(hung.get(), Reason::kShuttingDown));
  EXPECT_TRUE(HasReason(Look("/b/x", Quick).get(), Reason::kShuttingDown));
  pool_ = nullptr;  // Returns.
}

}  // namespace
}  // namespace tidemark
