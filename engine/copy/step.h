// What one step of a copy tells whoever drives it. Plain data; any thread.
#ifndef ENGINE_COPY_STEP_H_
#define ENGINE_COPY_STEP_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"

namespace tidemark::copy {

// Work done and work known: not disk sizes, and both may grow.
struct Progress {
  uint64_t current_bytes = 0;
  uint64_t total_bytes = 0;

  friend bool operator==(const Progress&, const Progress&) = default;
};

// An I/O error met by a step; the scheduler applies the job's policy for that side.
struct IoError {
  bool is_read = false;  // True: on-source-error governs it; false: on-target-error.
  absl::Status status;
};

struct StepResult {
  enum class Next {
    kAgain,  // More can be done at once.
    kWait,   // Nothing to do until `delay` has passed or the job calls its waker.
    kDone,   // The work is complete; never stepped again.
  };
  Next next = Next::kAgain;
  absl::Duration delay = absl::InfiniteDuration();
  // Something that it has begun has not ended yet: it is to be seen to after `delay`, or when the
  // job calls its waker, however slow the job is meant to be.
  bool in_flight = false;
  // Bytes begun since the last step told: what the speed limit counts.
  uint64_t moved_bytes = 0;
  // Set if source or target failed. What failed is to be done again by the next step.
  absl::optional<IoError> io_error;
  // Source and target are the same from now on (mirrors): the job may be completed.
  bool ready = false;
};

}  // namespace tidemark::copy

#endif  // ENGINE_COPY_STEP_H_
