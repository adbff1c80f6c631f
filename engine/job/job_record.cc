#include "engine/job/job_record.h"

#include <utility>

#include "engine/base/check.h"

namespace tidemark::job {

JobRecord::JobRecord(const JobOptions& options_given, std::unique_ptr<Job> job_given,
                     std::shared_ptr<JobGroup> group_given, absl::Time created,
                     JobListener* listener_given)
    : options(options_given),
      group(std::move(group_given)),
      created_time(created),
      listener(listener_given),
      job(std::move(job_given)) {
  limiter.set_bytes_per_second(absl::ZeroDuration(), static_cast<uint64_t>(options.speed));
}

void JobRecord::Move(JobStatus to) {
  CHECK(CanMove(status, to));
  status = to;
  if (listener != nullptr) listener->OnStatusChange(Snapshot());
}

void JobRecord::TellCancel() {
  // Before its start nothing can be in flight: no step was made, and guests are held back.
  if (started) drained = false;
  job->OnCancel();
}

void JobRecord::LeavePause() {
  user_paused = false;
  if (status == JobStatus::kPaused) Move(JobStatus::kRunning);
  if (status == JobStatus::kStandby) Move(JobStatus::kReady);
}

JobSnapshot JobRecord::Snapshot() const {
  JobSnapshot snapshot;
  snapshot.id = options.id;
  snapshot.type = options.type;
  snapshot.status = status;
  snapshot.progress = job != nullptr ? job->progress() : final_progress;
  snapshot.speed = limiter.bytes_per_second();
  snapshot.io_status = io_status;
  snapshot.busy = activity == Activity::kStepping || in_flight;
  snapshot.paused = user_paused || is_paused();
  snapshot.ready = status == JobStatus::kReady || status == JobStatus::kStandby;
  snapshot.auto_finalize = options.auto_finalize;
  snapshot.auto_dismiss = options.auto_dismiss;
  snapshot.error = error;
  if (job != nullptr) snapshot.actively_synced = job->actively_synced();
  snapshot.created_time = created_time;
  snapshot.concluded_time = concluded_time;
  return snapshot;
}

}  // namespace tidemark::job
