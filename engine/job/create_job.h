// blockdev-create as a job: one blocking function, run once, on a thread that steps do not need.
// Started with type kCreate
// and auto_dismiss false.
#ifndef ENGINE_JOB_CREATE_JOB_H_
#define ENGINE_JOB_CREATE_JOB_H_

#include <atomic>
#include <functional>
#include <memory>

#include "engine/base/executor.h"
#include "engine/base/mutex.h"
#include "engine/job/job.h"

namespace tidemark::job {

class CreateJob final : public Job {
 public:
  // What `create` returns is the job's result. It may block; once `cancelled` is true, it is to
  // return soon, whatever it returns. `clean` (may be empty) runs at the
  // end, whatever the result, on a graph-command worker: lets go of nodes.
  using Create = std::function<absl::Status(const std::atomic<bool>& cancelled)>;
  // `creator` runs `create`; null: the step does.
  explicit CreateJob(Create create, std::function<void()> clean = nullptr,
                     std::unique_ptr<Executor> creator = nullptr);

  void OnStart(std::function<void()> waker) override { waker_ = std::move(waker); }

  absl::StatusOr<StepResult> Step(uint64_t budget_bytes) override;
  bool Drain() override;
  void OnCancel() override { cancelled_ = true; }
  Progress progress() const override;
  void Clean() override;

 private:
  void Begin();
  void Run();

  const Create create_;
  const std::function<void()> clean_;
  const std::unique_ptr<Executor> creator_;

  // Set before the first step.
  std::function<void()> waker_;
  // The steps' own.
  bool is_begun_ = false;

  std::atomic<bool> cancelled_ = false;
  std::atomic<bool> created_ = false;

  Mutex mutex_;
  bool is_running_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status result_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tidemark::job

#endif  // ENGINE_JOB_CREATE_JOB_H_
