// Who is told what jobs do. The only way that job events leave this package.
//
// Thread rule: every method is called on the engine thread, in the order in which things happened,
// with no lock held. A listener must not block; it may call the scheduler's queries, not its verbs.
#ifndef ENGINE_JOB_JOB_LISTENER_H_
#define ENGINE_JOB_JOB_LISTENER_H_

#include <cstdint>

#include "engine/job/error_policy.h"
#include "engine/job/job_snapshot.h"

namespace tidemark::job {

class JobListener {
 public:
  virtual ~JobListener() = default;

  // JOB_STATUS_CHANGE. With status kNull it is the last that is heard of the job, and the snapshot
  // holds its result.
  virtual void OnStatusChange(const JobSnapshot& job) { (void)job; }

  // BLOCK_JOB_COMPLETED: `job.error` tells success from failure. Block jobs only, as the next four.
  virtual void OnCompleted(const JobSnapshot& job) { (void)job; }
  // BLOCK_JOB_CANCELLED.
  virtual void OnCancelled(const JobSnapshot& job) { (void)job; }
  // BLOCK_JOB_READY.
  virtual void OnReady(const JobSnapshot& job) { (void)job; }
  // BLOCK_JOB_PENDING: the job waits for job-finalize.
  virtual void OnPending(const JobSnapshot& job) { (void)job; }
  // BLOCK_JOB_ERROR, once for every failed attempt. The rate is bounded by the scheduler's pause
  // between attempts (limits.h), not by the length of the job.
  virtual void OnError(const JobSnapshot& job, bool is_read, ErrorAction action) {
    (void)job, (void)is_read, (void)action;
  }

  // Work was done. At most ten times a second for each job, and never after kConcluded.
  virtual void OnProgress(const JobSnapshot& job) { (void)job; }
};

}  // namespace tidemark::job

#endif  // ENGINE_JOB_JOB_LISTENER_H_
