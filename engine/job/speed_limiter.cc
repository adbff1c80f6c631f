#include "engine/job/speed_limiter.h"

#include <algorithm>
#include <limits>

#include "engine/job/limits.h"

namespace tidemark::job {

uint64_t SpeedLimiter::BytesPerSlice() const {
  const uint64_t slices_per_second = absl::Seconds(1) / kSpeedSlice;
  return std::max<uint64_t>(1, bytes_per_second_ / slices_per_second);
}

absl::Duration SpeedLimiter::SliceEnd() const {
  const uint64_t used = std::max<uint64_t>(1, moved_bytes_ / BytesPerSlice());
  // A chunk of 1 MiB at one byte a second uses ten million slices: well within a Duration.
  return slice_begin_ + kSpeedSlice * static_cast<double>(used);
}

absl::Duration SpeedLimiter::DelayAt(absl::Duration now) const {
  if (bytes_per_second_ == 0 || moved_bytes_ < BytesPerSlice()) return absl::ZeroDuration();
  return std::max(SliceEnd() - now, absl::ZeroDuration());
}

uint64_t SpeedLimiter::BudgetAt(absl::Duration now) const {
  if (bytes_per_second_ == 0) return std::numeric_limits<uint64_t>::max();
  if (now >= SliceEnd() || moved_bytes_ >= BytesPerSlice()) return BytesPerSlice();
  return BytesPerSlice() - moved_bytes_;
}

void SpeedLimiter::Account(absl::Duration now, uint64_t bytes) {
  if (now >= SliceEnd()) {
    slice_begin_ = now;
    moved_bytes_ = 0;
  }
  moved_bytes_ += bytes;
}

}  // namespace tidemark::job
