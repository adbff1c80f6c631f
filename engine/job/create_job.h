// blockdev-create as a job: one blocking function, run once on a worker. Started with type kCreate
// and auto_dismiss false.
#ifndef ENGINE_JOB_CREATE_JOB_H_
#define ENGINE_JOB_CREATE_JOB_H_

#include <atomic>
#include <functional>

#include "engine/job/job.h"

namespace tidemark::job {

class CreateJob final : public Job {
 public:
  // What `create` returns is the job's result. It may block; once `cancelled` is true, it is to
  // return soon, whatever it returns. `clean` (may be empty) runs at the
  // end, whatever the result, on the graph-command worker: lets go of nodes.
  using Create = std::function<absl::Status(const std::atomic<bool>& cancelled)>;
  explicit CreateJob(Create create, std::function<void()> clean = nullptr);

  absl::StatusOr<StepResult> Step(uint64_t budget_bytes) override;
  void OnCancel() override { cancelled_ = true; }
  Progress progress() const override;
  void Clean() override;

 private:
  const Create create_;
  const std::function<void()> clean_;
  std::atomic<bool> cancelled_ = false;
  std::atomic<bool> created_ = false;
};

}  // namespace tidemark::job

#endif  // ENGINE_JOB_CREATE_JOB_H_
