#include "engine/backend/event_log.h"

#include <cstring>
#include <future>
#include <set>
#include <thread>

#include "engine/backend/event_subject.h"
#include "engine/backend/testing/log_world.h"
#include "engine/base/error.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark::backend {
namespace {

using ::testing::ElementsAre;

class EventLogTest : public LogWorld {};

TEST_F(EventLogTest, SequencesStartAtOneAndRise) {
  EXPECT_EQ(log_->position(), 0u);
  EXPECT_EQ(log_->oldest(), 1u);
  EXPECT_EQ(log_->Append("", StatusChange("a", v1::JOB_STATUS_CREATED)), 1u);
  EXPECT_EQ(log_->Append("vm1", StatusChange("b", v1::JOB_STATUS_CREATED)), 2u);
  EXPECT_EQ(log_->position(), 2u);
  EXPECT_THAT(ReadAll(), ElementsAre("1 a JOB_STATUS_CREATED", "2 b JOB_STATUS_CREATED"));
}

TEST_F(EventLogTest, AppendSetsInstanceKindAndTime) {
  clock_.Advance(absl::Milliseconds(2500));
  log_->Append("vm1", StatusChange("a", v1::JOB_STATUS_CREATED));
  const Event event = *log_->Read(0)->front();
  EXPECT_EQ(event.instance(), "vm1");
  EXPECT_EQ(event.kind(), v1::EVENT_KIND_JOB_STATUS_CHANGE);
  EXPECT_EQ(event.time().seconds(), 2);
  EXPECT_EQ(event.time().nanos(), 500'000'000);
}

TEST_F(EventLogTest, ATimeThatTheEngineToldIsKept) {
  Event event = StatusChange("a", v1::JOB_STATUS_CREATED);
  event.mutable_time()->set_seconds(77);
  log_->Append("vm1", event);
  EXPECT_EQ(log_->Read(0)->front()->time().seconds(), 77);
}

TEST_F(EventLogTest, EveryKindOfEventHasItsNumber) {
  for (int i = 0; i < Event::descriptor()->oneof_decl(0)->field_count(); ++i) {
    const auto* field = Event::descriptor()->oneof_decl(0)->field(i);
    Event event;
    event.GetReflection()->MutableMessage(&event, field);
    std::string name = v1::EventKind_Name(KindOf(event)).substr(strlen("EVENT_KIND_"));
    for (char& c : name) c = static_cast<char>(tolower(c));
    EXPECT_EQ(name, field->name());
  }
}

TEST_F(EventLogTest, AReaderGoesOnFromItsCursorInBoundedPieces) {
  for (int i = 0; i < 5; ++i) log_->Append("", StatusChange("j", v1::JOB_STATUS_RUNNING));
  const auto events = log_->Read(1, 2);
  ASSERT_EQ(events->size(), 2u);
  EXPECT_EQ(events->front()->sequence(), 2u);
  EXPECT_EQ(log_->Read(3)->size(), 2u);
  EXPECT_TRUE(log_->Read(5)->empty());
}

TEST_F(EventLogTest, TooManyEventsPushOutTheOldestAndAReaderIsToldSo) {
  EventLogOptions options;
  options.events_kept_max = 3;
  Make(options);
  for (int i = 0; i < 5; ++i) log_->Append("", StatusChange("j", v1::JOB_STATUS_RUNNING));
  EXPECT_EQ(log_->oldest(), 3u);
  EXPECT_EQ(log_->Read(2)->size(), 3u);
  const absl::Status status = log_->Read(1).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(DetailsOf(status)->reason, Reason::kEventsExpired);
  EXPECT_THAT(DetailsOf(status)->metadata, ElementsAre(std::make_pair("oldest_sequence", "3")));
}

TEST_F(EventLogTest, TooManyBytesPushOutTheOldest) {
  EventLogOptions options;
  options.event_bytes_kept_max = 10'000;
  Make(options);
  const std::string name(1000, 'x');
  for (int i = 0; i < 20; ++i) log_->Append("", StatusChange(name, v1::JOB_STATUS_RUNNING));
  EXPECT_GE(log_->oldest(), 11u);
  EXPECT_LE(log_->oldest(), 13u);
}

TEST_F(EventLogTest, AnEventLargerThanAllIsStillHeldAlone) {
  EventLogOptions options;
  options.event_bytes_kept_max = 100;
  Make(options);
  log_->Append("", StatusChange("small", v1::JOB_STATUS_RUNNING));
  log_->Append("", StatusChange(std::string(1000, 'x'), v1::JOB_STATUS_RUNNING));
  EXPECT_EQ(log_->oldest(), 2u);
  EXPECT_EQ(log_->Read(1)->size(), 1u);
}

// One machine's storm is its own: what others did stays readable for those who ask for them.
TEST_F(EventLogTest, TheInstanceWithMostEventsLosesItsOldest) {
  EventLogOptions options;
  options.events_kept_max = 10;
  Make(options);
  log_->Append("quiet", StatusChange("a", v1::JOB_STATUS_CREATED));
  log_->Append("quiet", StatusChange("a", v1::JOB_STATUS_NULL));
  for (int i = 0; i < 1'000; ++i) log_->Append("storm", StatusChange("b", v1::JOB_STATUS_RUNNING));
  const auto events = log_->Read(0, kEventsPerReadMax, {"quiet"});
  ASSERT_TRUE(events.ok()) << events.status();
  EXPECT_EQ(Describe(*events->at(0)), "1 a JOB_STATUS_CREATED");
  EXPECT_EQ(Describe(*events->at(1)), "2 a JOB_STATUS_NULL");
  const absl::Status of_storm = log_->Read(0, kEventsPerReadMax, {"quiet", "storm"}).status();
  EXPECT_EQ(DetailsOf(of_storm)->reason, Reason::kEventsExpired);
  const absl::Status of_all = log_->Read(0).status();
  EXPECT_THAT(DetailsOf(of_all)->metadata,
              ElementsAre(std::make_pair("oldest_sequence", std::to_string(log_->oldest()))));
  EXPECT_EQ(log_->oldest(), 995u);
  EXPECT_EQ(log_->Read(994)->size(), 8u) << "the remedy of the error works";
}

TEST_F(EventLogTest, ACursorInTheFutureIsRefused) {
  log_->Append("", StatusChange("j", v1::JOB_STATUS_RUNNING));
  const absl::Status status = log_->Read(2).status();
  EXPECT_EQ(DetailsOf(status)->reason, Reason::kSequenceUnknown);
  EXPECT_THAT(DetailsOf(status)->metadata, ElementsAre(std::make_pair("newest_sequence", "1")));
}

TEST_F(EventLogTest, AStormOfErrorsIsToldAtOnceAndThenTenTimesASecond) {
  for (int i = 0; i < 1000; ++i) {
    log_->Append("", JobError("j"));
    executor_.Advance(absl::Milliseconds(1));
  }
  const auto events = *log_->Read(0);
  EXPECT_EQ(events.front()->block_job_error().count(), 1u);
  EXPECT_GE(events.size(), 9u);
  EXPECT_LE(events.size(), 11u);
  executor_.Advance(absl::Seconds(1));
  uint64_t told = 0;
  const auto all = *log_->Read(0);
  for (const EventPtr& event : all) told += event->block_job_error().count();
  EXPECT_EQ(told, 1000u);
  EXPECT_EQ(executor_.timers(), 0u) << "the timer runs only while something is held back";
}

TEST_F(EventLogTest, WhatIsHeldBackComesBeforeTheNextEventOfTheJob) {
  for (int i = 0; i < 8; ++i) log_->Append("", JobError("j"));
  log_->Append("", Progress("j", 1));
  log_->Append("", Progress("j", 2));
  log_->Append("", StatusChange("j", v1::JOB_STATUS_ABORTING));
  EXPECT_THAT(ReadAll(), ElementsAre("1 j ERROR*1", "3 j ERROR*7", "4 j PROGRESS 2",
                                     "5 j JOB_STATUS_ABORTING"));
}

TEST_F(EventLogTest, ErrorsThatDifferAreToldApartEvenWhenTheyAlternate) {
  for (int i = 0; i < 100; ++i) {
    log_->Append("", JobError("j", v1::IO_OPERATION_TYPE_READ));
    log_->Append("", JobError("j", v1::IO_OPERATION_TYPE_WRITE));
  }
  EXPECT_THAT(ReadAll(), ElementsAre("1 j ERROR*1", "2 j ERROR*1"));
  executor_.Advance(absl::Milliseconds(100));
  EXPECT_THAT(ReadAll(2), ElementsAre("3 j ERROR*99", "4 j ERROR*99"));
}

TEST_F(EventLogTest, JobsOfOneNameOnTwoInstancesAreTwoJobs) {
  log_->Append("", JobError("j"));
  log_->Append("vm1", JobError("j"));
  EXPECT_THAT(ReadAll(), ElementsAre("1 j ERROR*1", "2 j ERROR*1"));
}

TEST_F(EventLogTest, OnlyTheNewestProgressOfAJobIsKept) {
  for (int i = 1; i <= 5; ++i) {
    log_->Append("", Progress("a", i));
    log_->Append("", Progress("b", i * 10));
    executor_.Advance(absl::Milliseconds(100));
  }
  EXPECT_THAT(ReadAll(), ElementsAre("9 a PROGRESS 5", "10 b PROGRESS 50"));
  EXPECT_TRUE(log_->Read(0).ok()) << "what a newer figure replaces is not lost";
}

TEST_F(EventLogTest, ProgressDoesNotPushOutOtherEvents) {
  EventLogOptions options;
  options.events_kept_max = 3;
  Make(options);
  log_->Append("", StatusChange("j", v1::JOB_STATUS_CREATED));
  for (int i = 1; i <= 100; ++i) {
    log_->Append("", Progress("j", i));
    executor_.Advance(absl::Milliseconds(100));
  }
  EXPECT_THAT(ReadAll(), ElementsAre("1 j JOB_STATUS_CREATED", "101 j PROGRESS 100"));
}

TEST_F(EventLogTest, ProgressIsToldTenTimesASecondAndTheLastFigureIsNotLost) {
  for (int i = 1; i <= 1000; ++i) {
    log_->Append("", Progress("j", i));
    executor_.Advance(absl::Milliseconds(1));
  }
  executor_.Advance(absl::Milliseconds(100));
  EXPECT_LE(log_->position(), 11u);
  EXPECT_EQ(log_->Read(0)->back()->job_progress().progress_bytes(), 1000);
}

TEST_F(EventLogTest, FlushTellsWhatIsHeldBack) {
  log_->Append("", Progress("j", 1));
  log_->Append("", Progress("j", 2));
  log_->Flush();
  EXPECT_THAT(ReadAll(), ElementsAre("2 j PROGRESS 2"));
}

TEST_F(EventLogTest, TheMemoryOfCoalescingIsBounded) {
  for (size_t i = 0; i < 3 * kCoalescedJobsMax; ++i) {
    log_->Append("", JobError("job" + std::to_string(i)));
    log_->Append("", JobError("job" + std::to_string(i)));
  }
  log_->Flush();
  EXPECT_EQ(log_->position(), 6 * kCoalescedJobsMax) << "no error was lost";
}

TEST_F(EventLogTest, AWaiterIsWokenOnceOnTheExecutor) {
  int woken = 0;
  log_->WakeAfter(0, [&woken] { ++woken; });
  executor_.RunReady();
  EXPECT_EQ(woken, 0);
  log_->Append("", StatusChange("j", v1::JOB_STATUS_RUNNING));
  EXPECT_EQ(woken, 0) << "never inside Append";
  executor_.RunReady();
  EXPECT_EQ(woken, 1);
  log_->Append("", StatusChange("j", v1::JOB_STATUS_RUNNING));
  executor_.RunReady();
  EXPECT_EQ(woken, 1);
}

TEST_F(EventLogTest, AWaiterForThePastIsWokenSoon) {
  log_->Append("", StatusChange("j", v1::JOB_STATUS_RUNNING));
  int woken = 0;
  log_->WakeAfter(0, [&woken] { ++woken; });
  EXPECT_EQ(woken, 0);
  executor_.RunReady();
  EXPECT_EQ(woken, 1);
  EXPECT_EQ(log_->waiting_count(), 0u);
}

TEST_F(EventLogTest, ACancelledWaiterIsForgotten) {
  const auto shared = std::make_shared<int>(0);
  const uint64_t id = log_->WakeAfter(0, [shared] { ++*shared; });
  EXPECT_EQ(log_->waiting_count(), 1u);
  log_->CancelWake(id);
  EXPECT_EQ(log_->waiting_count(), 0u);
  EXPECT_EQ(shared.use_count(), 1) << "what it held is let go";
  log_->Append("", StatusChange("j", v1::JOB_STATUS_RUNNING));
  executor_.RunReady();
  EXPECT_EQ(*shared, 0);
}

TEST_F(EventLogTest, ATimerThatOutlivesTheLogDoesNothing) {
  log_->Append("", Progress("j", 1));
  log_->Append("", Progress("j", 2));
  log_.reset();
  executor_.Advance(absl::Seconds(1));
  EXPECT_EQ(executor_.timers(), 0u);
}

TEST(EventLogThreads, ConcurrentAppendsGetDistinctSequencesAndReadersSeeThemAll) {
  constexpr int kThreads = 4;
  constexpr int kEventsPerThread = 2'000;
  WorkerPool executor("test", 2);
  EventLog log(SystemClock(), executor);
  std::set<uint64_t> seen;
  std::thread reader([&] {
    uint64_t cursor = 0;
    while (cursor < kThreads * kEventsPerThread) {
      const auto events = *log.Read(cursor);
      for (const EventPtr& event : events) {
        EXPECT_EQ(event->sequence(), cursor + 1);
        cursor = event->sequence();
        seen.insert(cursor);
      }
      if (cursor == kThreads * kEventsPerThread) break;
      // Shared: set_value may still run when the waiting thread has gone on.
      auto woken = std::make_shared<std::promise<void>>();
      log.WakeAfter(cursor, [woken] { woken->set_value(); });
      woken->get_future().wait();
    }
  });
  std::vector<std::thread> writers;
  for (int thread = 0; thread < kThreads; ++thread) {
    writers.emplace_back([&log, thread] {
      for (int i = 0; i < kEventsPerThread; ++i) {
        log.Append("", StatusChange("job" + std::to_string(thread), v1::JOB_STATUS_RUNNING));
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  reader.join();
  EXPECT_EQ(seen.size(), static_cast<size_t>(kThreads * kEventsPerThread));
}

auto Is(const std::string& wanted) {
  return [wanted](const std::string& node) { return node == wanted; };
}

// WatchEvents filters by node: an event that names one must be found by it.
TEST(EventSubject, EveryEventWithANodeIsFoundByIt) {
  int with_node = 0;
  const auto& type = *v1::Event::descriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    if (type.field(i)->real_containing_oneof() == nullptr) continue;
    const auto* const name = type.field(i)->message_type()->FindFieldByName("node_name");
    if (name == nullptr) continue;
    v1::Event event;
    auto* const payload = event.GetReflection()->MutableMessage(&event, type.field(i));
    payload->GetReflection()->SetString(payload, name, "disk0");
    EXPECT_TRUE(NamesNode(event, Is("disk0"))) << type.field(i)->name();
    EXPECT_FALSE(NamesNode(event, Is("disk1"))) << type.field(i)->name();
    ++with_node;
  }
  EXPECT_GE(with_node, 5);
  v1::Event quorum;
  quorum.mutable_quorum_failure()->set_reference("disk0");
  EXPECT_TRUE(NamesNode(quorum, Is("disk0")));
}

}  // namespace
}  // namespace tidemark::backend
