#include "engine/nbd/stall_watch.h"

#include <gtest/gtest.h>

#include <thread>

#include "engine/nbd/cost_estimate.h"

namespace tidemark::nbd {
namespace {

class Patient final : public StallWatch::Watched {
 public:
  bool CheckForStall() override {
    check_count_++;
    return running_;
  }
  void AwaitChecks(int count) {
    const int until = check_count_ + count;
    while (check_count_ < until) std::this_thread::yield();
  }

  std::atomic<bool> running_ = false;
  std::atomic<int> check_count_ = 0;
};

TEST(StallWatch, ChecksWhatRunsAgainAndAgain) {
  StallWatch watch;
  Patient patient;
  watch.Add(&patient);
  patient.running_ = true;
  watch.Notice();
  patient.AwaitChecks(2 * kIdleRoundsBeforeSleep);
  watch.Remove(&patient);
}

TEST(StallWatch, FallsAsleepWhenNothingRunsAndNoticesWhatBegins) {
  StallWatch watch;
  Patient patient;
  watch.Add(&patient);
  for (int round = 0; round < 3; ++round) {
    patient.running_ = true;
    watch.Notice();
    patient.AwaitChecks(2);
    patient.running_ = false;
    // Asleep after so many rounds; whether it is there yet or not, the next Notice must work.
    if (round > 0) patient.AwaitChecks(kIdleRoundsBeforeSleep);
  }
  watch.Remove(&patient);
}

TEST(StallWatch, NeverCallsWhatHasBeenRemoved) {
  StallWatch watch;
  for (int round = 0; round < 50; ++round) {
    Patient patient;
    patient.running_ = true;
    watch.Add(&patient);
    watch.Notice();
    if (round % 2 == 0) patient.AwaitChecks(1);
    watch.Remove(&patient);
    const int count = patient.check_count_;
    std::this_thread::yield();
    EXPECT_EQ(patient.check_count_, count);
  }
}

TEST(CostEstimate, LearnsPerKindAndForgivesOneLongWait) {
  CostEstimate costs;
  Request read;
  read.range.length_bytes = 4096;
  Request write = {};
  write.command = Command::kWrite;
  EXPECT_FALSE(costs.IsSlow(read)) << "innocent at first";
  costs.Record(write, absl::Seconds(5));
  EXPECT_FALSE(costs.IsSlow(write)) << "once is chance";
  for (int i = 0; i < 20; ++i) costs.Record(write, 2 * kInlineCostMax);
  EXPECT_TRUE(costs.IsSlow(write));
  EXPECT_FALSE(costs.IsSlow(read)) << "reads are another kind";
  for (int i = 0; i < 50; ++i) costs.Record(write, kInlineCostMax / 10);
  EXPECT_FALSE(costs.IsSlow(write));
}

}  // namespace
}  // namespace tidemark::nbd
