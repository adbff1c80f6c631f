#include "engine/job/create_job.h"

#include <utility>

#include "engine/base/status_macros.h"

namespace tidemark::job {

CreateJob::CreateJob(Create create, std::function<void()> clean)
    : create_(std::move(create)), clean_(std::move(clean)) {}

absl::StatusOr<StepResult> CreateJob::Step(uint64_t) {
  RETURN_IF_ERROR(create_(cancelled_));
  created_ = true;
  StepResult result;
  result.next = StepResult::Next::kDone;
  return result;
}

Progress CreateJob::progress() const { return {created_.load() ? 1u : 0u, 1}; }

void CreateJob::Clean() {
  if (clean_ != nullptr) clean_();
}

}  // namespace tidemark::job
