// One job as the scheduler knows it. Engine thread only, but for what says otherwise: this is data,
// shared by the parts of the scheduler (job_runner.h, group_ending.h) and by nobody else.
#ifndef ENGINE_JOB_JOB_RECORD_H_
#define ENGINE_JOB_JOB_RECORD_H_

#include <atomic>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "engine/job/job.h"
#include "engine/job/job_group.h"
#include "engine/job/job_listener.h"
#include "engine/job/job_options.h"
#include "engine/job/job_snapshot.h"
#include "engine/job/speed_limiter.h"
#include "engine/job/state.h"

namespace tidemark::job {

struct JobRecord : std::enable_shared_from_this<JobRecord> {
  // What a worker does for the job at the moment.
  enum class Activity { kNone, kStepping, kDraining };

  JobRecord(const JobOptions& options, std::unique_ptr<Job> job, std::shared_ptr<JobGroup> group,
            absl::Time created_time, JobListener* listener);

  // The only way to a new state: checks it against the table and tells the listener.
  void Move(JobStatus to);
  // Tells the job that it is going to be aborted. What a drain of before did not wait for is waited
  // for by the next.
  void TellCancel();
  // Out of a pause on the way to the end, as QEMU's jobs pass.
  void LeavePause();

  JobSnapshot Snapshot() const;

  bool is_block_job() const { return IsBlockJob(options.type); }
  bool is_paused() const { return status == JobStatus::kPaused || status == JobStatus::kStandby; }
  bool is_concluded() const {
    return status == JobStatus::kConcluded || status == JobStatus::kNull;
  }

  // ---- Constant after construction.
  const JobOptions options;
  const std::shared_ptr<JobGroup> group;
  const absl::Time created_time;
  JobListener* const listener;

  // ---- Any thread.
  // Asks the steps at work to return.
  std::atomic<bool> interrupted = false;
  // A look at the job is already on its way to the engine thread.
  std::atomic<bool> wake_posted = false;

  // ---- Engine thread.
  JobStatus status = JobStatus::kUndefined;
  // Null once its end has begun: it then belongs to a graph-command worker.
  std::unique_ptr<Job> job;
  // What `progress` was when `job` went away.
  Progress final_progress;
  absl::optional<absl::Time> concluded_time;

  bool started = false;
  // Of what the last step told.
  bool in_flight = false;
  Activity activity = Activity::kNone;
  // Nothing is in flight: no step and no cancel since the last drain that found nothing.
  bool drained = true;
  // When it is asked again whether it has drained.
  absl::Duration drain_at = -absl::InfiniteDuration();

  // What the user, an error, or the group wants.
  bool user_paused = false;
  bool cancel_wanted = false;
  // How a ready job was told to end, by the first who did.
  absl::optional<Ending> told_ending;
  IoStatus io_status = IoStatus::kOk;
  // Why the job ends without success.
  absl::Status error;
  // Its last step was done.
  bool done = false;
  // Will not be stepped again, and nothing is in flight.
  bool stopped = false;
  // Its Abort is on the way.
  bool ending = false;

  // When it may be stepped next.
  SpeedLimiter limiter;
  absl::Duration wait_until = -absl::InfiniteDuration();  // Of a step that said kWait.
  // What the last step left in flight is looked at then, also if the speed allows nothing new.
  absl::Duration look_at = absl::InfiniteDuration();
  bool woken = false;  // Since the turn at work began: it may wait for what has come meanwhile.
  absl::Duration retry_after = -absl::InfiniteDuration();  // Of an ignored error.
  absl::Duration retry_delay = absl::ZeroDuration();
  // The earliest timer under way.
  absl::Duration timer_at = absl::InfiniteDuration();

  absl::Duration progress_reported_at = -absl::InfiniteDuration();
  Progress progress_reported;
};

}  // namespace tidemark::job

#endif  // ENGINE_JOB_JOB_RECORD_H_
