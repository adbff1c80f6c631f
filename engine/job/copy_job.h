// A job that is a copy::BlockCopy from its start to its end: what backup and stream share.
//
// The job itself knows neither graph nor named bitmaps: its hooks do.
#ifndef ENGINE_JOB_COPY_JOB_H_
#define ENGINE_JOB_COPY_JOB_H_

#include <functional>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/bitmap/dirty_bitmap.h"
#include "engine/copy/copier.h"
#include "engine/job/job.h"

namespace tidemark::job {

// What the end of the job means for graph and bitmaps. Each may be empty. Called on a
// graph-command worker as the Job methods of the same names; `not_copied` is what the target lacks,
// one bit per copy unit.
struct CopyHooks {
  std::function<absl::Status()> prepare;
  std::function<void(const bitmap::DirtyBitmap& not_copied)> commit;
  std::function<void(const bitmap::DirtyBitmap& not_copied)> abort;
  // Last, always: filter away (if commit and abort have not done so), nodes let go.
  std::function<void()> clean;
};

class CopyJob : public Job {
 public:
  void OnStart(std::function<void()> waker) override { copy_->set_waker(std::move(waker)); }
  absl::StatusOr<StepResult> Step(uint64_t budget_bytes) override {
    return copy_->Step(budget_bytes);
  }
  bool Drain() override { return copy_->Drain(); }
  void OnResume() override { copy_->OnResume(); }
  void OnCancel() override { copy_->Stop(); }
  absl::Status lost() const override { return copy_->lost(); }
  absl::optional<IoError> TakeError() override { return copy_->TakeError(); }
  Progress progress() const override { return copy_->progress(); }
  absl::Status Prepare() override;
  void Commit() override;
  void Abort() override;
  void Clean() override;

  // Safe to keep longer than the job; does nothing then.
  const std::shared_ptr<copy::BlockCopy>& copy() const { return copy_; }

 protected:
  CopyJob(std::shared_ptr<copy::BlockCopy> copy, CopyHooks hooks)
      : copy_(std::move(copy)), hooks_(std::move(hooks)) {}

 private:
  const std::shared_ptr<copy::BlockCopy> copy_;
  const CopyHooks hooks_;
};

}  // namespace tidemark::job

#endif  // ENGINE_JOB_COPY_JOB_H_
