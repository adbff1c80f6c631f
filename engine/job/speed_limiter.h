// Keeps a stream of chunks to a speed: the average over seconds, not the instant rate. The first
// chunk of a slice passes at once, however big; what it is too big for is paid by waiting for the
// slices it has used up. Whoever uses it is on one thread.
#ifndef ENGINE_JOB_SPEED_LIMITER_H_
#define ENGINE_JOB_SPEED_LIMITER_H_

#include <cstdint>

#include "absl/time/time.h"

namespace tidemark::job {

class SpeedLimiter {
 public:
  // Takes effect at once, for the slice that is running too. 0 is unlimited.
  void set_bytes_per_second(uint64_t bytes_per_second) { bytes_per_second_ = bytes_per_second; }
  uint64_t bytes_per_second() const { return bytes_per_second_; }

  // How long nothing may begin yet. `now` is time since some fixed moment.
  absl::Duration DelayAt(absl::Duration now) const;
  // How much may begin now, once DelayAt is zero: at least one byte, which stands for a chunk.
  uint64_t BudgetAt(absl::Duration now) const;
  // `bytes` have begun.
  void Account(absl::Duration now, uint64_t bytes);

 private:
  uint64_t BytesPerSlice() const;
  // When the slices that `moved_bytes_` has used up are over.
  absl::Duration SliceEnd() const;

  uint64_t bytes_per_second_ = 0;
  absl::Duration slice_begin_ = -absl::InfiniteDuration();
  uint64_t moved_bytes_ = 0;
};

}  // namespace tidemark::job

#endif  // ENGINE_JOB_SPEED_LIMITER_H_
