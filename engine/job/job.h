// A long copy told as short steps. The scheduler (scheduler.h) owns pause, cancel, speed, progress
// and error policy; a job only moves chunks.
//
// Thread rule: Step and Drain are called from one worker at a time, never two at once. They share
// it with all other jobs: what waits for a disk is left to others, who call the waker. Prepare,
// Commit, Abort and Clean are called from a graph-command worker, after the last step and Drain
// (HoldGuests and LastStep too): they may block, and hop to the engine thread for what they link.
// Exactly one of Commit and Abort runs, then Clean, then the job is destroyed. The other methods
// say their own.
#ifndef ENGINE_JOB_JOB_H_
#define ENGINE_JOB_JOB_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "engine/copy/step.h"

namespace tidemark::job {

using copy::IoError;
using copy::Progress;
using copy::StepResult;

// How a ready job is told to end.
enum class Ending {
  kComplete,    // job-complete: with the change of the graph the job was made for.
  kStopInSync,  // block-job-cancel without force: target consistent, graph as it was.
};

// What block-job-change can say. Mirrors only.
enum class CopyMode { kBackground, kWriteBlocking };

// While it lives, the guests of some nodes are held: their gates are closed, and nothing of theirs
// is in flight. Destroyed on any thread, which must not block.
class GuestHold {
 public:
  virtual ~GuestHold() = default;
};

class Job {
 public:
  virtual ~Job() = default;

  // Told once, on the engine thread, before the first step. `waker` may be called from any thread,
  // until the job is destroyed, holding no lock: it makes the scheduler look at the job again.
  virtual void OnStart(std::function<void()> waker) { (void)waker; }

  // Moves a bounded amount: begins at most `budget_bytes` of new work, but at least one chunk if
  // there is any. A budget of 0 begins nothing new: the job goes on with what it has begun, and
  // tries again what has failed. An I/O error is not a failure but a part of the result: policy
  // decides. A failure ends the job whatever its policy says.
  virtual absl::StatusOr<StepResult> Step(uint64_t budget_bytes) = 0;

  // Before the job is paused or ended: begins nothing, and goes on with what Step began. True once
  // nothing of it is in flight; otherwise called again when the job has called its waker, or soon.
  virtual bool Drain() { return true; }

  // The user lets a paused job go on. What failed before is tried again by the next Step, and told
  // only if it fails again. Engine thread; must not block.
  virtual void OnResume() {}

  // The job is going to be aborted: a Step that waits returns soon, and nobody is to be held up
  // for this job's sake any longer. Possibly before OnStart. Engine thread; must not block.
  virtual void OnCancel() {}

  // Not OK once the job is lost whatever happens next. A job that calls its waker is asked this, so
  // that it can fail while it is paused, or not allowed to go on at its speed. Any thread.
  virtual absl::Status lost() const { return absl::OkStatus(); }

  // A failure of source or target that no step has told yet; told by this call instead. A paused
  // job that calls its waker is asked this. Any thread; must not block.
  virtual absl::optional<IoError> TakeError() { return absl::nullopt; }

  // A ready job is to end: its steps return kDone as soon as source and target are equal. Engine
  // thread; must not block. Called again if the caller asks again.
  virtual void OnEnding(Ending ending) { (void)ending; }

  // block-job-change. Engine thread; must not block.
  virtual absl::Status Change(CopyMode mode);

  virtual Progress progress() const = 0;  // Any thread.

  // Mirrors: whether guest writes reach the target before they are acknowledged. Any thread.
  virtual absl::optional<bool> actively_synced() const { return absl::nullopt; }

  // A last step with the guests held, for jobs whose result must be that of the instant at which it
  // takes its place (mirror, commit): HoldGuests of all of the group, LastStep of all, then Prepare
  // and Commit; the guests go on after Commit. An error of either fails the job, and the guests go
  // on at once. They do so, too, after kGuestHoldMax: OnCancel is called then, and the job fails.
  // Null, as here, for jobs that hold nobody. HoldGuests gives up after `timeout`, unless it holds
  // nobody while it waits.
  virtual absl::StatusOr<std::unique_ptr<GuestHold>> HoldGuests(absl::Duration timeout) {
    (void)timeout;
    return nullptr;
  }
  // Only after HoldGuests has given a hold.
  virtual absl::Status LastStep() { return absl::OkStatus(); }

  virtual absl::Status Prepare() { return absl::OkStatus(); }  // Last chance to fail.
  virtual void Commit() {}
  virtual void Abort() {}
  virtual void Clean() {}  // Always, last: lets go of nodes.
};

}  // namespace tidemark::job

#endif  // ENGINE_JOB_JOB_H_
