#include "engine/job/create_job.h"

#include <utility>

#include "engine/base/status_macros.h"

namespace tidemark::job {

CreateJob::CreateJob(Create create, std::function<void()> clean, std::unique_ptr<Executor> creator)
    : create_(std::move(create)), clean_(std::move(clean)), creator_(std::move(creator)) {}

absl::StatusOr<StepResult> CreateJob::Step(uint64_t) {
  if (!std::exchange(is_begun_, true)) Begin();
  StepResult result;
  result.next = StepResult::Next::kWait;
  MutexLock lock(&mutex_);
  if (is_running_) return result;
  RETURN_IF_ERROR(result_);
  created_ = true;
  result.next = StepResult::Next::kDone;
  return result;
}

void CreateJob::Begin() {
  {
    MutexLock lock(&mutex_);
    is_running_ = true;
  }
  if (creator_ == nullptr) return Run();
  creator_->Post([this] {
    // Kept here: the job may be gone as soon as nothing of it runs.
    const std::function<void()> waker = waker_;
    Run();
    if (waker != nullptr) waker();
  });
}

void CreateJob::Run() {
  absl::Status status = create_(cancelled_);
  MutexLock lock(&mutex_);
  result_ = std::move(status);
  is_running_ = false;
}

bool CreateJob::Drain() {
  MutexLock lock(&mutex_);
  return !is_running_;
}

Progress CreateJob::progress() const { return {created_.load() ? 1u : 0u, 1}; }

void CreateJob::Clean() {
  if (clean_ != nullptr) clean_();
}

}  // namespace tidemark::job
