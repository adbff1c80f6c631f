// Keeps a stream of chunks to a speed: the average over seconds, not the instant rate. What has
// begun is owed, and is paid off by the time that passes; while anything is owed nothing more may
// begin. So the first chunk passes at once, however big, and is paid by waiting. Whoever uses it is
// on one thread.
#ifndef ENGINE_JOB_SPEED_LIMITER_H_
#define ENGINE_JOB_SPEED_LIMITER_H_

#include <cstdint>

#include "absl/time/time.h"

namespace tidemark::job {

// `now` is time since some fixed moment, and never goes back.
class SpeedLimiter {
 public:
  // Takes effect at once, for what is owed too. 0 is unlimited: nothing is owed any more.
  void set_bytes_per_second(absl::Duration now, uint64_t bytes_per_second);
  uint64_t bytes_per_second() const { return bytes_per_second_; }

  // How long nothing may begin yet.
  absl::Duration DelayAt(absl::Duration now) const;
  // How much may begin now: at least one byte, which stands for a chunk, once DelayAt is zero; 0
  // before.
  uint64_t BudgetAt(absl::Duration now) const;
  // `bytes` have begun at `now`. The time since then pays for them.
  void Account(absl::Duration now, uint64_t bytes);

 private:
  double OwedAt(absl::Duration now) const;
  double BytesPerSlice() const;

  uint64_t bytes_per_second_ = 0;
  // As of `at_`. Less than nothing is owed for a while where whoever begins comes late: at most
  // what a slice of time pays, so that no pause is made up for by a burst.
  double owed_bytes_ = 0;
  absl::Duration at_ = absl::ZeroDuration();
};

}  // namespace tidemark::job

#endif  // ENGINE_JOB_SPEED_LIMITER_H_
