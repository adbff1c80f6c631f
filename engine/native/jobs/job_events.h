// Turns what jobs do into events of the log.
#ifndef ENGINE_NATIVE_JOBS_JOB_EVENTS_H_
#define ENGINE_NATIVE_JOBS_JOB_EVENTS_H_

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "engine/backend/event_log.h"
#include "engine/base/clock.h"
#include "engine/job/job_listener.h"

namespace tidemark::native {

// Engine thread. Log and clock must outlive it.
class JobEvents final : public job::JobListener {
 public:
  JobEvents(backend::EventLog* log, Clock* clock) : log_(*log), clock_(*clock) {}

  // The nodes that a job about to be created works on, source first: its events name them.
  // Forgotten with the job.
  void SetNodes(absl::string_view job_id, std::vector<std::string> node_names);
  // The nodes of all these jobs.
  std::vector<std::string> NodesOf(const std::vector<std::string>& job_ids) const;
  // A job that was not created after all.
  void ForgetNodes(absl::string_view job_id);

  void OnStatusChange(const job::JobSnapshot& job) override;
  void OnCompleted(const job::JobSnapshot& job) override;
  void OnCancelled(const job::JobSnapshot& job) override;
  void OnReady(const job::JobSnapshot& job) override;
  void OnPending(const job::JobSnapshot& job) override;
  void OnError(const job::JobSnapshot& job, bool is_read, job::ErrorAction action) override;
  void OnProgress(const job::JobSnapshot& job) override;

 private:
  // Where a job stood at one moment.
  struct Sample {
    absl::Duration elapsed;
    uint64_t bytes = 0;
  };

  const std::vector<std::string>& NodesOf(const std::string& job_id) const;
  // Bytes a second over the last few seconds; 0 if that is not known yet.
  int64_t RateOf(const job::JobSnapshot& job);

  backend::EventLog& log_;
  Clock& clock_;
  absl::flat_hash_map<std::string, std::vector<std::string>> nodes_;
  // Oldest first; what is older than kRatePeriod is dropped, so at most some dozens a job.
  absl::flat_hash_map<std::string, std::deque<Sample>> samples_;
};

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_JOBS_JOB_EVENTS_H_
