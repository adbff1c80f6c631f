// A long copy told as short steps. The scheduler (scheduler.h) owns pause, cancel, speed, progress
// and error policy; a job only moves chunks.
//
// Thread rule: Step, Drain and BeforeResume are called from one worker at a time, never two at
// once; Prepare, Commit, Abort and Clean from the graph-command worker, after the last step: they
// may block, and hop to the engine thread for what they link. (Exactly one of Commit and Abort
// runs, then Clean.)
#ifndef ENGINE_JOB_JOB_H_
#define ENGINE_JOB_JOB_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace tidemark::job {

// Work done and work known: not disk sizes, and both may grow [B10].
struct Progress {
  uint64_t current_bytes = 0;
  uint64_t total_bytes = 0;
};

// An I/O error met by a step; the scheduler applies the job's policy for that side.
struct IoError {
  bool is_read = false;  // True: on-source-error governs it; false: on-target-error.
  absl::Status status;
};

struct StepResult {
  enum class Next {
    kAgain,  // More can be done at once.
    kWait,   // Nothing to do until `delay` passed or Job-specific work wakes the scheduler.
    kDone,   // The copy is complete; never stepped again.
  };
  Next next = Next::kAgain;
  absl::Duration delay = absl::ZeroDuration();
  // Bytes moved by this step: what the speed limit counts.
  uint64_t moved_bytes = 0;
};

class Job {
 public:
  virtual ~Job() = default;

  // Moves a bounded amount. An error that is an IoError is fetched with TakeIoError and judged by
  // policy; the failed stretch is dirty again, so that the next Step retries it. Any other error
  // ends the job.
  virtual absl::StatusOr<StepResult> Step() = 0;

  // Waits until nothing of the job's own is in flight: before it is paused or ended.
  virtual void Drain() {}

  virtual Progress progress() const = 0;  // Any thread.

  virtual absl::Status Prepare() { return absl::OkStatus(); }  // Last chance to fail.
  virtual void Commit() {}
  virtual void Abort() {}
  virtual void Clean() {}  // Always, last: lets go of nodes.
};

}  // namespace tidemark::job

#endif  // ENGINE_JOB_JOB_H_
