#include "engine/base/clock.h"

#include "absl/time/clock.h"
#include "gtest/gtest.h"

namespace tidemark {
namespace {

TEST(SystemClock, NeverGoesBack) {
  absl::Duration before = SystemClock().Elapsed();
  for (int i = 0; i < 1000; ++i) {
    const absl::Duration now = SystemClock().Elapsed();
    ASSERT_GE(now, before);
    before = now;
  }
}

TEST(SystemClock, TellsTheTimeOfDay) {
  const absl::Time before = absl::Now();
  const absl::Time now = SystemClock().Now();
  EXPECT_GE(now, before - absl::Seconds(1));
  EXPECT_LE(now, absl::Now() + absl::Seconds(1));
}

TEST(ManualClock, StandsStillUntilMoved) {
  ManualClock clock;
  EXPECT_EQ(clock.Elapsed(), absl::ZeroDuration());
  EXPECT_EQ(clock.Now(), absl::UnixEpoch());
  clock.Advance(absl::Seconds(3));
  EXPECT_EQ(clock.Elapsed(), absl::Seconds(3));
  EXPECT_EQ(clock.Now(), absl::FromUnixSeconds(3));
}

}  // namespace
}  // namespace tidemark
