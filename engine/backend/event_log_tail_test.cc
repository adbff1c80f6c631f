// The log and what outlives the process: what is told is saved, or marked.
#include <string>
#include <thread>
#include <vector>

#include "engine/backend/testing/log_world.h"
#include "engine/base/error.h"
#include "engine/base/mutex.h"
#include "engine/base/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark::backend {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class MemoryTail final : public EventTail {
 public:
  absl::StatusOr<Saved> Load() override { return Saved{saved_, 0, {}}; }
  absl::Status Save(const std::vector<EventPtr>& events) override {
    ++saves_;
    if (fails_-- > 0) return absl::UnavailableError("the disk is full");
    saved_.insert(saved_.end(), events.begin(), events.end());
    return absl::OkStatus();
  }
  void AddGap() override { saved_.clear(); }

  // So many saves will fail.
  int fails_ = 0;
  int saves_ = 0;

 private:
  std::vector<EventPtr> saved_;
};

class EventLogTailTest : public LogWorld {
 protected:
  void WithTail() {
    EventLogOptions options;
    options.tail = tail_;
    Make(options);
  }
  const std::shared_ptr<MemoryTail> tail_ = std::make_shared<MemoryTail>();
};

TEST_F(EventLogTailTest, AReaderIsShownAnEventOnlyOnceItIsSaved) {
  WithTail();
  int woken = 0;
  log_->WakeAfter(0, [&woken] { ++woken; });
  EXPECT_EQ(log_->Append("", StatusChange("j", v1::JOB_STATUS_CREATED)), 1u);
  EXPECT_EQ(log_->position(), 1u);
  EXPECT_EQ(log_->shown(), 0u);
  EXPECT_THAT(ReadAll(), ElementsAre());
  EXPECT_TRUE(log_->Read(1).ok()) << "a position that was told is none of the future";
  EXPECT_EQ(woken, 0);
  executor_.RunReady();
  EXPECT_EQ(woken, 1);
  EXPECT_EQ(log_->shown(), 1u);
  EXPECT_THAT(ReadAll(), ElementsAre("1 j JOB_STATUS_CREATED"));
}

TEST_F(EventLogTailTest, EventsThatHappenTogetherAreSavedTogether) {
  WithTail();
  for (int i = 0; i < 1'000; ++i) log_->Append("", StatusChange("j", v1::JOB_STATUS_RUNNING));
  executor_.RunReady();
  EXPECT_EQ(log_->shown(), 1'000u);
  EXPECT_EQ(tail_->saves_, 1);
}

TEST_F(EventLogTailTest, WhatWaitsToBeShownRunsThen) {
  WithTail();
  std::vector<uint64_t> shown;
  const auto note = [&] { shown.push_back(log_->shown()); };
  log_->RunWhenShown(0, note);
  EXPECT_THAT(shown, ElementsAre(0)) << "at once";
  log_->Append("", StatusChange("j", v1::JOB_STATUS_CREATED));
  log_->RunWhenShown(1, note);
  EXPECT_THAT(shown, ElementsAre(0));
  executor_.RunReady();
  EXPECT_THAT(shown, ElementsAre(0, 1));
}

TEST_F(EventLogTailTest, WhileNothingCanBeSavedEverythingIsShownAndMarked) {
  WithTail();
  std::vector<bool> told;
  log_->OnSavingChange([&told](const absl::Status& saving) { told.push_back(saving.ok()); });
  log_->Append("", StatusChange("j", v1::JOB_STATUS_CREATED));
  executor_.RunReady();
  tail_->fails_ = 2;
  log_->Append("", StatusChange("j", v1::JOB_STATUS_RUNNING));
  executor_.RunReady();
  EXPECT_EQ(log_->saving().message(), "the disk is full");
  log_->Append("", StatusChange("j", v1::JOB_STATUS_PAUSED));
  EXPECT_THAT(ReadAll(), ElementsAre("1 j JOB_STATUS_CREATED", "2 j JOB_STATUS_RUNNING unsaved",
                                     "3  NOT SAVING unsaved", "4 j JOB_STATUS_PAUSED unsaved"));
  executor_.Advance(kSaveAgain);
  EXPECT_FALSE(log_->saving().ok());
  executor_.Advance(kSaveAgain);
  EXPECT_TRUE(log_->saving().ok());
  EXPECT_THAT(ReadAll(), ElementsAre("1 j JOB_STATUS_CREATED", "2 j JOB_STATUS_RUNNING",
                                     "3  NOT SAVING", "4 j JOB_STATUS_PAUSED", "5  SAVING"));
  EXPECT_THAT(told, ElementsAre(false, true));
}

TEST_F(EventLogTailTest, WhatIsMarkedIsCopiedOnceForAllReaders) {
  WithTail();
  tail_->fails_ = 1;
  log_->Append("", StatusChange("j", v1::JOB_STATUS_CREATED));
  executor_.RunReady();
  const EventPtr first = log_->Read(0)->at(0);
  EXPECT_TRUE(first->unsaved());
  EXPECT_EQ(log_->Read(0)->at(0), first) << "another reader has the same";
  executor_.Advance(kSaveAgain);
  const EventPtr saved = log_->Read(0)->at(0);
  EXPECT_FALSE(saved->unsaved());
  EXPECT_EQ(log_->Read(0)->at(0), saved);
  EXPECT_TRUE(first->unsaved()) << "what a reader has does not change under it";
}

TEST_F(EventLogTailTest, WhatWasShownOnceStaysShown) {
  WithTail();
  tail_->fails_ = 1;
  log_->Append("", StatusChange("j", v1::JOB_STATUS_CREATED));
  executor_.RunReady();
  const uint64_t shown = log_->shown();
  executor_.Advance(kSaveAgain);
  EXPECT_GE(log_->shown(), shown);
}

// A tail that takes what it is told only when it is let go: a disk that hangs.
class HungTail final : public EventTail {
 public:
  absl::StatusOr<Saved> Load() override { return Saved(); }
  absl::Status Save(const std::vector<EventPtr>&) override {
    asked_.Notify();
    go_.Wait();
    return absl::OkStatus();
  }
  void AddGap() override {}

  Notification asked_;
  Notification go_;
};

TEST_F(EventLogTailTest, ATailThatDoesNotAnswerHoldsReadersUpForABoundedTime) {
  SerialExecutor saver("saver");
  const auto tail = std::make_shared<HungTail>();
  EventLogOptions options;
  options.tail = tail;
  options.saver = &saver;
  Make(options);
  log_->Append("", StatusChange("j", v1::JOB_STATUS_CREATED));
  tail->asked_.Wait();
  executor_.Advance(kSaveTimeMax - absl::Milliseconds(1));
  EXPECT_EQ(log_->shown(), 0u);
  executor_.Advance(absl::Milliseconds(1));
  EXPECT_THAT(ReadAll(), ElementsAre("1 j JOB_STATUS_CREATED unsaved", "2  NOT SAVING unsaved"));
  tail->go_.Notify();
  Notification saved;
  log_->RunWhenSaved(1, [&saved] { saved.Notify(); });
  while (log_->saved() < 1) std::this_thread::yield();
}

TEST_F(EventLogTailTest, AnOperatorIsToldOnceThatTheTailHangsAndThatItAnswersAgain) {
  SerialExecutor saver("saver");
  const auto tail = std::make_shared<HungTail>();
  Mutex mutex;
  std::vector<std::string> warnings;
  EventLogOptions options;
  options.tail = tail;
  options.saver = &saver;
  options.save_time_max = absl::Seconds(2);
  options.warn = [&](const std::string& text) {
    MutexLock lock(&mutex);
    warnings.push_back(text);
  };
  const auto told = [&] {
    MutexLock lock(&mutex);
    return warnings;
  };
  Make(options);
  log_->Append("", StatusChange("j", v1::JOB_STATUS_CREATED));
  tail->asked_.Wait();
  executor_.Advance(absl::Milliseconds(1'999));
  EXPECT_THAT(told(), ElementsAre());
  for (int i = 0; i < 3; ++i) executor_.Advance(absl::Seconds(2));
  EXPECT_THAT(told(), ElementsAre(HasSubstr("has not answered for")));
  tail->go_.Notify();
  while (log_->saved() < 1) std::this_thread::yield();
  EXPECT_THAT(told(), ElementsAre(HasSubstr("has not answered for"), HasSubstr("answers again")));
  log_.reset();
}

// What hangs may be a store beside the tail, which nothing was asked to save.
TEST_F(EventLogTailTest, AFolderThatIsToldNotToAnswerIsWellAgainOnceItHasSavedThat) {
  std::vector<std::string> warnings;
  EventLogOptions options;
  options.tail = tail_;
  options.warn = [&](const std::string& text) { warnings.push_back(text); };
  Make(options);
  log_->TellNotAnswering(absl::Seconds(7));
  EXPECT_EQ(log_->saving().message(), "the state folder has not answered for 7s");
  EXPECT_THAT(ReadAll(), ElementsAre("1  NOT SAVING unsaved"));
  executor_.RunReady();
  EXPECT_TRUE(log_->saving().ok());
  EXPECT_THAT(ReadAll(), ElementsAre("1  NOT SAVING", "2  SAVING"));
  EXPECT_THAT(warnings, ElementsAre(HasSubstr("7s"), HasSubstr("answers again")));
}

TEST_F(EventLogTailTest, WithoutATailNothingCanFailToAnswer) {
  log_->TellNotAnswering(absl::Seconds(7));
  EXPECT_TRUE(log_->saving().ok());
  EXPECT_THAT(ReadAll(), ElementsAre());
}

TEST_F(EventLogTailTest, WithoutATailAllIsShownAtOnceAndNothingIsMarked) {
  log_->Append("", StatusChange("j", v1::JOB_STATUS_CREATED));
  EXPECT_THAT(ReadAll(), ElementsAre("1 j JOB_STATUS_CREATED"));
  EXPECT_EQ(log_->saved(), 1u);
  EXPECT_FALSE(log_->is_kept());
}

TEST_F(EventLogTailTest, ALogHasAnIdentity) {
  EventLog other(clock_, executor_);
  EXPECT_EQ(log_->id().size(), 32u);
  EXPECT_NE(log_->id(), other.id());
  EventLogOptions options;
  options.id = "mine";
  Make(options);
  EXPECT_EQ(log_->id(), "mine");
}

TEST_F(EventLogTailTest, ALogGoesOnWhereTheSavedTailEnds) {
  EventLogOptions options;
  options.tail = std::make_shared<MemoryTail>();
  Make(options);
  for (int i = 0; i < 3; ++i) log_->Append("", StatusChange("j", v1::JOB_STATUS_RUNNING));
  log_.reset();
  executor_.RunReady();
  options.kept = options.tail->Load()->events;
  options.kept.erase(options.kept.begin());
  options.dropped = 1;
  Make(options);
  EXPECT_EQ(log_->position(), 3u);
  EXPECT_EQ(log_->oldest(), 2u);
  EXPECT_EQ(log_->Read(1)->size(), 2u);
  EXPECT_FALSE(log_->Read(0).ok());
  EXPECT_EQ(log_->Append("", StatusChange("j", v1::JOB_STATUS_RUNNING)), 4u);
}

TEST_F(EventLogTailTest, WhatWaitsForAnEventToBeSavedRunsOnceItIs) {
  EventLogOptions options;
  const auto tail = std::make_shared<MemoryTail>();
  options.tail = tail;
  Make(options);
  const uint64_t first = log_->Append("", StatusChange("j", v1::JOB_STATUS_RUNNING));
  std::vector<size_t> saved_counts;
  const auto count = [&] { saved_counts.push_back(tail->Load()->events.size()); };
  log_->RunWhenSaved(first, count);
  log_->RunWhenSaved(first + 1, count);
  EXPECT_TRUE(saved_counts.empty());
  executor_.RunReady();
  EXPECT_THAT(saved_counts, ElementsAre(1)) << "the second event has not happened";
  log_->Append("", StatusChange("j", v1::JOB_STATUS_PAUSED));
  executor_.RunReady();
  EXPECT_THAT(saved_counts, ElementsAre(1, 2));
  log_->RunWhenSaved(first, count);
  EXPECT_EQ(saved_counts.size(), 2u) << "never inside the call";
  executor_.RunReady();
  EXPECT_THAT(saved_counts, ElementsAre(1, 2, 2));
}

TEST_F(EventLogTailTest, WhatCouldNotBeSavedIsSavedAgainAndWaitedFor) {
  EventLogOptions options;
  const auto tail = std::make_shared<MemoryTail>();
  tail->fails_ = 2;
  options.tail = tail;
  EventLog log(clock_, executor_, options);
  bool is_saved = false;
  log.RunWhenSaved(log.Append("", StatusChange("j", v1::JOB_STATUS_CREATED)),
                   [&is_saved] { is_saved = true; });
  executor_.RunReady();
  EXPECT_FALSE(is_saved);
  log.Append("", StatusChange("k", v1::JOB_STATUS_CREATED));
  executor_.Advance(kSaveAgain);
  EXPECT_FALSE(is_saved);
  executor_.Advance(kSaveAgain);
  EXPECT_TRUE(is_saved);
  EXPECT_EQ(tail->Load()->events.size(), 4u) << "two of them tell that saving failed and works";
}

TEST_F(EventLogTailTest, WithoutATailNothingWaitsToBeSaved) {
  Make({});
  bool ran = false;
  log_->RunWhenSaved(7, [&ran] { ran = true; });
  executor_.RunReady();
  EXPECT_TRUE(ran);
}

TEST_F(EventLogTailTest, ATailThatFallsBehindIsGivenUpRatherThanLeftWithAHole) {
  EventLogOptions options;
  options.tail = std::make_shared<MemoryTail>();
  options.events_kept_max = 2;
  Make(options);
  log_->Append("", StatusChange("j", v1::JOB_STATUS_RUNNING));
  executor_.RunReady();
  for (int i = 0; i < 3; ++i) log_->Append("", StatusChange("j", v1::JOB_STATUS_RUNNING));
  executor_.RunReady();
  const auto saved = options.tail->Load()->events;
  ASSERT_EQ(saved.size(), 2u);
  EXPECT_EQ(saved[0]->sequence(), 3u);
}

TEST_F(EventLogTailTest, ALogThatBeginsBehindLostEventsSaysSo) {
  EventLogOptions options;
  options.start_after = 1'000;
  Make(options);
  EXPECT_EQ(DetailsOf(log_->Read(5).status())->reason, Reason::kEventsExpired);
  EXPECT_TRUE(log_->Read(1'000)->empty());
  EXPECT_EQ(log_->Append("", StatusChange("j", v1::JOB_STATUS_RUNNING)), 1'001u);
}

}  // namespace
}  // namespace tidemark::backend
