// Storms of guests' errors: see event_log_test.cc for those of jobs.
#include "engine/backend/coalescer.h"

#include "engine/backend/testing/log_world.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark::backend {
namespace {

using ::testing::ElementsAre;

class CoalescerTest : public LogWorld {};

TEST_F(CoalescerTest, AStormOfAGuestsErrorsIsFewEventsWhoseCountsAddUp) {
  for (int i = 0; i < 12'400; ++i) {
    log_->Append("vm1", IoError("drive0"));
    if (i % 10 == 0) executor_.Advance(absl::Milliseconds(1));
  }
  executor_.Advance(absl::Seconds(1));
  uint64_t told = 0;
  const auto events = *log_->Read(0);
  for (const EventPtr& event : events) told += event->block_io_error().count();
  EXPECT_EQ(told, 12'400u);
  EXPECT_LE(events.size(), 15u);
  EXPECT_EQ(executor_.timers(), 0u);
}

TEST_F(CoalescerTest, DevicesNodesAndMachinesAreToldApart) {
  for (int i = 0; i < 3; ++i) {
    log_->Append("vm1", IoError("a"));
    log_->Append("vm1", IoError("b"));
    log_->Append("vm1", IoError("", "a"));
    log_->Append("vm2", IoError("a"));
  }
  EXPECT_THAT(ReadAll(), ElementsAre("1  a IO_ERROR*1", "2  b IO_ERROR*1", "3  a IO_ERROR*1",
                                     "4  a IO_ERROR*1"));
  executor_.Advance(kCoalescePeriod);
  EXPECT_EQ(log_->position(), 8u);
}

TEST_F(CoalescerTest, WhatIsHeldBackComesBeforeTheMachineStops) {
  for (int i = 0; i < 3; ++i) log_->Append("vm1", IoError("a"));
  Event stop;
  stop.mutable_stop();
  log_->Append("vm2", stop);
  log_->Append("vm1", stop);
  EXPECT_THAT(ReadAll(), ElementsAre("1  a IO_ERROR*1", "2  EVENT_KIND_STOP", "3  a IO_ERROR*2",
                                     "4  EVENT_KIND_STOP"));
}

TEST_F(CoalescerTest, EveryEventWithACountIsCoalesced) {
  int with_count = 0;
  const auto& type = *v1::Event::descriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    if (type.field(i)->real_containing_oneof() == nullptr) continue;
    const auto* const count = type.field(i)->message_type()->FindFieldByName("count");
    if (count == nullptr) continue;
    Make({});
    Event event;
    event.GetReflection()->MutableMessage(&event, type.field(i));
    for (int times = 0; times < 5; ++times) log_->Append("vm1", event);
    log_->Flush();
    const auto events = *log_->Read(0);
    ASSERT_EQ(events.size(), 2u) << type.field(i)->name();
    const auto& last = events[1]->GetReflection()->GetMessage(*events[1], type.field(i));
    EXPECT_EQ(last.GetReflection()->GetUInt64(last, count), 4u) << type.field(i)->name();
    ++with_count;
  }
  EXPECT_EQ(with_count, 4);
}

TEST_F(CoalescerTest, TheKindsOfErrorThatAreRememberedAreBounded) {
  for (size_t i = 0; i < 3 * kCoalescedKindsMax; ++i) {
    log_->Append("vm1", IoError("drive" + std::to_string(i)));
    log_->Append("vm1", IoError("drive" + std::to_string(i)));
  }
  log_->Flush();
  EXPECT_EQ(log_->position(), 6 * kCoalescedKindsMax) << "no error was lost";
}

}  // namespace
}  // namespace tidemark::backend
