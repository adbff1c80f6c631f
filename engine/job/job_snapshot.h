// What a job looked like at one moment: the material of query-jobs, query-block-jobs and every job
// event. A plain value; any thread.
#ifndef ENGINE_JOB_JOB_SNAPSHOT_H_
#define ENGINE_JOB_JOB_SNAPSHOT_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "engine/job/error_policy.h"
#include "engine/job/job.h"
#include "engine/job/state.h"

namespace tidemark::job {

struct JobSnapshot {
  std::string id;
  JobType type = JobType::kBackup;
  JobStatus status = JobStatus::kUndefined;
  // current/total-progress of a job; offset and len of a block job.
  Progress progress;
  // Bytes per second; 0 is unlimited.
  uint64_t speed = 0;
  IoStatus io_status = IoStatus::kOk;
  // A step is at work just now.
  bool busy = false;
  // Also in standby, and from the moment that a pause was asked for.
  bool paused = false;
  // In ready and standby only.
  bool ready = false;
  bool auto_finalize = true;
  bool auto_dismiss = true;
  // Not OK once the job is known to end without success; CANCELLED with the message "Operation
  // canceled" for a cancelled one.
  absl::Status error;
  // Mirrors only.
  absl::optional<bool> actively_synced;
  absl::Time created_time;
  // Set once concluded.
  absl::optional<absl::Time> concluded_time;
};

}  // namespace tidemark::job

#endif  // ENGINE_JOB_JOB_SNAPSHOT_H_
