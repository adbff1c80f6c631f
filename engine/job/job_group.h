// Jobs that end together: all are committed, or none is. A single job is a group of one.
//
// Made by whoever starts jobs (a transaction with grouped completion), filled by
// Scheduler::Create, and from then on the scheduler's own: opaque to everybody else.
#ifndef ENGINE_JOB_JOB_GROUP_H_
#define ENGINE_JOB_JOB_GROUP_H_

#include <vector>

namespace tidemark::job {

struct JobRecord;

// Engine thread.
class JobGroup {
 public:
  JobGroup() = default;
  JobGroup(const JobGroup&) = delete;
  JobGroup& operator=(const JobGroup&) = delete;

 private:
  friend class Scheduler;
  friend class GroupEnding;

  enum class Phase {
    kWorking,     // Members work or wait for each other.
    kPending,     // All are done; somebody has to finalize.
    kPreparing,   // Prepare runs on a graph-command worker: cancelling is still possible.
    kCommitting,  // Commit runs: nothing can stop it.
    kAborting,    // One failed or was cancelled; the rest follow, one after another.
  };

  Phase phase_ = Phase::kWorking;
  // In the order of creation; those that have concluded are gone from it.
  std::vector<JobRecord*> members_;
};

}  // namespace tidemark::job

#endif  // ENGINE_JOB_JOB_GROUP_H_
