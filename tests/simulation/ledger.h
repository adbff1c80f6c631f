// What jobs have told by their events, held against the table of states: each job goes only where
// it may, ends exactly once, and is not heard of again.
#ifndef TESTS_SIMULATION_LEDGER_H_
#define TESTS_SIMULATION_LEDGER_H_

#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "engine/backend/event_log.h"
#include "tidemark/block/v1/job_info.pb.h"

namespace tidemark::simulation {

class Ledger {
 public:
  struct Job {
    block::v1::JobStatus status = block::v1::JOB_STATUS_UNSPECIFIED;
    bool is_block_job = true;
    bool completed = false;
    bool cancelled = false;
    std::string error;
    int error_events = 0;
    // When it ran first, and when it had done its work.
    absl::Time began;
    absl::Time ended;
    bool speed_changed = false;
    // It was, at some time.
    bool paused = false;
    bool gone() const { return status == block::v1::JOB_STATUS_NULL; }
    bool concluded() const { return gone() || status == block::v1::JOB_STATUS_CONCLUDED; }
    bool succeeded() const { return completed && error.empty(); }
  };

  // Empty, or what cannot be.
  std::string Add(const std::vector<backend::EventPtr>& events);

  const std::map<std::string, Job>& jobs() const { return jobs_; }
  // Null before its first event.
  const Job* Find(const std::string& id) const;
  // Somebody is about to change the job's speed.
  void NoteSpeedChange(const std::string& id) { jobs_[id].speed_changed = true; }
  // Errors that stopped a job, or were retried, since the last call.
  int TakeNewErrors();

 private:
  std::string AddOne(const backend::Event& event);

  std::map<std::string, Job> jobs_;
  int new_errors_ = 0;
};

}  // namespace tidemark::simulation

#endif  // TESTS_SIMULATION_LEDGER_H_
