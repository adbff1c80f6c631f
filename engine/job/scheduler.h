// Owns every job, by id: creates, starts, steps, pauses, limits, ends and forgets them, and tells
// the listener. Job states live on the engine thread; steps run on workers; the ends of jobs run
// where RunEnding puts them.
//
// Thread rule: everything here is called on the engine thread, and never blocks. The
// executors must outlive the scheduler, and run nothing of it any more when it is destroyed
// (CancelAll first).
//
// A job's life: Create (the events up to "created"), Start ("running"; the job is stepped from then
// on), or Undo instead of Start. Its end: `waiting`, and when all of its group wait `pending`; then
// Prepare of all, Commit of all, Clean of all, the BLOCK_JOB_COMPLETED events, `concluded`, `null`.
// If one fails or is cancelled: that one goes `aborting`, Abort, Clean, COMPLETED with its error or
// CANCELLED, `concluded`, `null`; then each of the others likewise, as cancelled.
#ifndef ENGINE_JOB_SCHEDULER_H_
#define ENGINE_JOB_SCHEDULER_H_

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/base/clock.h"
#include "engine/base/executor.h"
#include "engine/job/job.h"
#include "engine/job/job_group.h"
#include "engine/job/job_listener.h"
#include "engine/job/job_options.h"
#include "engine/job/job_snapshot.h"
#include "engine/job/state.h"

namespace tidemark::job {

class GroupEnding;
class JobRunner;
struct JobRecord;

// Which commands a verb came through: job-* see every job, block-job-* only block jobs, and they
// differ in what an unknown job is called and in what cancelling means.
enum class VerbFamily { kJob, kBlockJob };

class Scheduler {
 public:
  // Has `task`, which ends jobs and may block, run some time later on another thread. Tasks whose
  // jobs have a node in common run one after another, in the order given.
  using RunEnding = std::function<void(const std::vector<std::string>& job_ids, Task task)>;

  // `listener` may be null.
  Scheduler(Executor* engine, Executor* workers, RunEnding run_ending, Clock* clock,
            JobListener* listener);
  ~Scheduler();
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  // Whether a job with these options could be created now: first the id, then the speed. For
  // refusing before nodes are touched; Create checks again.
  absl::Status Validate(const JobOptions& options) const;

  // The job exists, in state `created`. `group` may be null: the job then ends alone. On refusal
  // `job` is destroyed and nothing was heard of it.
  absl::Status Create(const JobOptions& options, std::unique_ptr<Job> job,
                      std::shared_ptr<JobGroup> group = nullptr);
  // A created job begins to work. The id must be of a created job (CHECKed). Members of a group may
  // be started one after another, in tasks of their own: the group is not committed before the
  // last of its created members has been started or undone, and none is aborted before it has been.
  void Start(absl::string_view id);
  // A created job is taken back: aborting, concluded, null, and no BLOCK_JOB event. Returns the
  // job, to be destroyed where that may block; neither Abort nor Clean is called.
  std::unique_ptr<Job> Undo(absl::string_view id);

  // ---- Verbs. Refusals: JobNotFound or BlockJobNotFound, JobVerbRefused, JobPaused, JobNotPaused,
  // InvalidArgument.

  // job-cancel (always by force), or block-job-cancel.
  absl::Status Cancel(VerbFamily family, absl::string_view id, bool force);
  absl::Status Pause(VerbFamily family, absl::string_view id);
  absl::Status Resume(VerbFamily family, absl::string_view id);
  absl::Status SetSpeed(VerbFamily family, absl::string_view id, int64_t bytes_per_second);
  absl::Status Complete(VerbFamily family, absl::string_view id);
  absl::Status Finalize(VerbFamily family, absl::string_view id);
  absl::Status Dismiss(VerbFamily family, absl::string_view id);
  absl::Status Change(absl::string_view id, JobType type, CopyMode mode);

  // ---- Queries, newest first.

  std::vector<JobSnapshot> QueryJobs() const;
  std::vector<JobSnapshot> QueryBlockJobs() const;
  absl::StatusOr<JobSnapshot> Find(absl::string_view id) const;

  // Shutdown: no more jobs are accepted (ShuttingDown), all that exist are cancelled by force, and
  // `done` is posted to the engine thread when the last has concluded. Waiting
  // for `done` where RunEnding has put a task may wait for ever, since ends run there.
  void CancelAll(Task done);

 private:
  using Records = std::list<std::shared_ptr<JobRecord>>;

  // The job of that name as the family sees it, or the family's refusal.
  absl::StatusOr<JobRecord*> FindFor(VerbFamily family, absl::string_view id) const;
  // The same, and the verb is allowed in the job's state.
  absl::StatusOr<JobRecord*> FindFor(VerbFamily family, absl::string_view id, JobVerb verb) const;
  std::shared_ptr<JobRecord> Shared(absl::string_view id) const;
  void TellEnding(JobRecord* record, Ending ending);
  void Forget(JobRecord* record);
  void OnConcluded(JobRecord* record);
  void ReportIfAllConcluded();

  // Constant after construction.
  Executor* const engine_;
  Clock* const clock_;
  JobListener* const listener_;
  const std::unique_ptr<GroupEnding> ending_;
  const std::unique_ptr<JobRunner> runner_;

  // Engine thread only.
  Records records_;  // Oldest first.
  bool shutting_down_ = false;
  std::vector<Task> when_all_concluded_;
};

}  // namespace tidemark::job

#endif  // ENGINE_JOB_SCHEDULER_H_
