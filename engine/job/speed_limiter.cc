#include "engine/job/speed_limiter.h"

#include <algorithm>
#include <limits>

#include "engine/job/limits.h"

namespace tidemark::job {
namespace {

// What is paid in less time than a timer can tell.
constexpr double kOwedSecondsMin = 1e-9;

}  // namespace

double SpeedLimiter::BytesPerSlice() const {
  return static_cast<double>(bytes_per_second_) * absl::ToDoubleSeconds(kSpeedSlice);
}

double SpeedLimiter::OwedAt(absl::Duration now) const {
  const double paid_bytes =
      static_cast<double>(bytes_per_second_) * absl::ToDoubleSeconds(std::max(now, at_) - at_);
  return std::max(owed_bytes_ - paid_bytes, -BytesPerSlice());
}

void SpeedLimiter::set_bytes_per_second(absl::Duration now, uint64_t bytes_per_second) {
  // What is to be made up for was a matter of the speed of before.
  owed_bytes_ = bytes_per_second == 0 ? 0 : std::max(OwedAt(now), 0.0);
  at_ = std::max(now, at_);
  bytes_per_second_ = bytes_per_second;
}

absl::Duration SpeedLimiter::DelayAt(absl::Duration now) const {
  if (bytes_per_second_ == 0) return absl::ZeroDuration();
  const double owed_seconds = OwedAt(now) / static_cast<double>(bytes_per_second_);
  return owed_seconds < kOwedSecondsMin ? absl::ZeroDuration() : absl::Seconds(owed_seconds);
}

uint64_t SpeedLimiter::BudgetAt(absl::Duration now) const {
  if (bytes_per_second_ == 0) return std::numeric_limits<uint64_t>::max();
  if (DelayAt(now) > absl::ZeroDuration()) return 0;
  const double owed_bytes = std::min(OwedAt(now), 0.0);
  // The greatest speeds there are must not overflow.
  return static_cast<uint64_t>(std::clamp(BytesPerSlice() - owed_bytes, 1.0, 1e18));
}

void SpeedLimiter::Account(absl::Duration now, uint64_t bytes) {
  if (bytes_per_second_ == 0) return;
  owed_bytes_ = OwedAt(now) + static_cast<double>(bytes);
  at_ = std::max(now, at_);
}

}  // namespace tidemark::job
