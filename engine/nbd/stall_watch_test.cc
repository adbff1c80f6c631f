#include "engine/nbd/stall_watch.h"

#include <gtest/gtest.h>

#include <thread>

#include "engine/nbd/cost_estimate.h"
#include "engine/nbd/spin_policy.h"

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
    // Asleep after so many rounds, the first of which may have been before they are counted here;
    // whether it is there yet or not, the next Notice must work.
    if (round > 0) patient.AwaitChecks(kIdleRoundsBeforeSleep / 2);
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

TEST(CostEstimate, JudgesAnewNowAndThen) {
  CostEstimate costs;
  Request read;
  int slow = 0;
  for (int i = 0; i < 2 * kSlowRequestsBelieved; ++i) {
    costs.Record(read, 2 * kInlineCostMax);
    if (costs.IsSlow(read)) slow++;
  }
  EXPECT_GT(slow, 2 * kSlowRequestsBelieved * 9 / 10);
  EXPECT_LT(slow, 2 * kSlowRequestsBelieved);
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

// A client that answers after `with_spin` if it was looked for, and `without_spin` otherwise.
// Returns for how many of the last half of `count` requests the policy looked.
int SpunRequests(SpinPolicy& policy, absl::Duration with_spin, absl::Duration without_spin,
                 int count) {
  int spun = 0;
  for (int i = 0; i < count; ++i) {
    const bool spins = policy.spin() > absl::ZeroDuration();
    if (i >= count / 2 && spins) spun++;
    policy.Record(spins ? with_spin : without_spin);
  }
  return spun;
}

TEST(SpinPolicy, KeepsTheWayThatGetsRequestsSooner) {
  constexpr int kCount = 20 * kSpinKeptRequests;
  const absl::Duration kShort = absl::Microseconds(10), kLong = absl::Microseconds(60);
  SpinPolicy policy;
  EXPECT_GT(SpunRequests(policy, kShort, kLong, kCount), kCount / 2 * 9 / 10);
  EXPECT_LT(SpunRequests(policy, kLong, kShort, kCount), kCount / 2 / 10) << "it changes its mind";
  EXPECT_LT(SpunRequests(policy, kShort, kShort, kCount), kCount / 2 / 10) << "no gain, no look";
}

TEST(SpinPolicy, NeverLooksForAClientAtRest) {
  SpinPolicy policy;
  SpunRequests(policy, absl::Microseconds(10), absl::Microseconds(60), 5000);
  policy.Record(kSpinPause * 2);
  EXPECT_EQ(policy.spin(), absl::ZeroDuration());
  EXPECT_EQ(SpunRequests(policy, kSpinPause * 2, kSpinPause * 2, 5000), 0);
}

}  // namespace
}  // namespace tidemark::nbd
