// Has jobs stepped: on workers, one turn at a time, within their speed, until they are done, fail,
// pause or are cancelled. The middle of a job's life; its end is group_ending.h.
//
// Thread rule: engine thread only.
#ifndef ENGINE_JOB_JOB_RUNNER_H_
#define ENGINE_JOB_JOB_RUNNER_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "engine/base/clock.h"
#include "engine/base/executor.h"
#include "engine/job/job_listener.h"
#include "engine/job/job_record.h"

namespace tidemark::job {

class JobRunner {
 public:
  // `on_stopped` hears, once for each job, that it will not be stepped again and nothing of it is
  // in flight. Why is in the record: done, cancel_wanted, or error.
  JobRunner(Executor* engine, Executor* workers, Clock* clock, JobListener* listener,
            std::function<void(JobRecord*)> on_stopped);

  // The job goes to `running`.
  void Start(JobRecord* record);

  // Does whatever the record now asks for: stop, pause, resume, step, or wait. To be called after
  // every change of the record; changes nothing if there is nothing to change.
  void Advance(JobRecord* record);

  // As Advance, and a job that waits for work looks for it.
  void Wake(JobRecord* record);

 private:
  struct TurnResult;
  // Stays reachable for tasks on their way; they find out that the runner is gone.
  using Alive = std::shared_ptr<JobRunner*>;

  static TurnResult RunTurn(JobRecord* record, Job* job, Clock* clock, uint64_t budget_bytes,
                            bool limited);
  bool WantsToStop(const JobRecord& record) const;
  void TellErrorWhilePaused(JobRecord* record);
  void DrainOrWait(JobRecord* record);
  void StepOrWait(JobRecord* record);
  void ArmTimer(JobRecord* record, absl::Duration at);
  void BeginTurn(JobRecord* record, uint64_t budget_bytes);
  void EndTurn(JobRecord* record, const TurnResult& result);
  void JudgeError(JobRecord* record, const IoError& io_error);
  void ReportProgress(JobRecord* record);

  Executor* const engine_;
  Executor* const workers_;
  Clock* const clock_;
  JobListener* const listener_;
  const std::function<void(JobRecord*)> on_stopped_;
  const Alive alive_;

 public:
  ~JobRunner() { *alive_ = nullptr; }
};

}  // namespace tidemark::job

#endif  // ENGINE_JOB_JOB_RUNNER_H_
