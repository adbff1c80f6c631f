// How jobs end: all of a group are committed, or none is. See scheduler.h for the order of events.
//
// Thread rule: engine thread only. HoldGuests, LastStep, Prepare, Commit, Abort and Clean of the
// jobs run where RunEnding puts them, on threads that may block; nothing here waits for them.
#ifndef ENGINE_JOB_GROUP_ENDING_H_
#define ENGINE_JOB_GROUP_ENDING_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/base/clock.h"
#include "engine/base/executor.h"
#include "engine/job/guest_holds.h"
#include "engine/job/job_group.h"
#include "engine/job/job_listener.h"
#include "engine/job/job_record.h"

namespace tidemark::job {

class GroupEnding {
 public:
  struct Hooks {
    // Have the job stopped (JobRunner::Advance): its cancel_wanted has been set.
    std::function<void(JobRecord*)> stop;
    // The job has concluded; the scheduler forgets it if that is wanted.
    std::function<void(JobRecord*)> concluded;
  };
  // Scheduler::RunEnding.
  using RunEnding = std::function<void(const std::vector<std::string>& job_ids, Task task)>;

  GroupEnding(Executor* engine, RunEnding run_ending, Clock* clock, JobListener* listener,
              Hooks hooks);

  // A job has stopped: done, failed or cancelled.
  void OnStopped(JobRecord* record);

  // Cancels by force, in any state that allows it. Refused only if the commit has begun.
  absl::Status Cancel(JobRecord* record);

  // A created job is taken back: hands it out.
  std::unique_ptr<Job> Leave(JobRecord* record);

  // The job is pending: finalizes its whole group. Refused if that is under way.
  absl::Status Finalize(JobRecord* record);

 private:
  using Phase = JobGroup::Phase;
  using Records = std::vector<std::shared_ptr<JobRecord>>;

  static Records Share(const JobGroup& group);
  static std::vector<std::string> IdsOf(const Records& records);
  void GoPending(JobGroup* group);
  void Prepare(JobGroup* group);
  absl::Status HoldAndPrepare(const Records& members, const std::shared_ptr<GuestHolds>& holds,
                              size_t* failed);
  void LimitHold(const Records& members, const std::shared_ptr<GuestHolds>& holds);
  void OnPrepared(JobGroup* group, const Records& members, size_t failed, absl::Status status,
                  const std::shared_ptr<GuestHolds>& holds);
  void Fail(JobGroup* group, JobRecord* member, absl::Status status);
  void Commit(JobGroup* group, std::shared_ptr<GuestHolds> holds);
  // The guests of a group went on before its commit could begin. Graph-command worker.
  void TakeBack(Records members, std::vector<std::unique_ptr<Job>> jobs);
  void Abort(JobGroup* group, JobRecord* first);
  void AbortNext(JobGroup* group);
  std::unique_ptr<Job> TakeJob(JobRecord* record);
  void Conclude(JobRecord* record);

  Executor* const engine_;
  const RunEnding run_ending_;
  Clock* const clock_;
  JobListener* const listener_;
  const Hooks hooks_;
};

}  // namespace tidemark::job

#endif  // ENGINE_JOB_GROUP_ENDING_H_
