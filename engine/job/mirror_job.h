// blockdev-mirror as a job: a copy of a disk that follows what guests write, until it takes the
// disk's place or stays behind as it was at that instant.
//
// The job itself knows no graph: its hooks do.
#ifndef ENGINE_JOB_MIRROR_JOB_H_
#define ENGINE_JOB_MIRROR_JOB_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "engine/base/clock.h"
#include "engine/bitmap/dirty_bitmap.h"
#include "engine/copy/copier.h"
#include "engine/copy/mirror_copy.h"
#include "engine/job/job.h"
#include "engine/storage/storage.h"

namespace tidemark::job {

struct MirrorParts {
  // For refusals.
  std::string source_node;
  std::string target_node;
  // Ports that are not gated (see mirror_copy.h). Idle from `commit` or `abort` on.
  std::shared_ptr<storage::Storage> source;
  std::shared_ptr<storage::Storage> target;
  // Says what is to be copied, and records what changes. Its granularity is the copy unit.
  std::shared_ptr<bitmap::DirtyBitmap> dirty;
  // sync=top: of that, only what the source's own layer holds.
  bool only_top_layer = false;
  CopyMode copy_mode = CopyMode::kBackground;
  // Zeroes take no space in the target.
  bool zeroes_may_unmap = true;
  // Most bytes in flight; 0: the copy's own limit, which is the most.
  uint64_t in_flight_bytes_max = 0;
  copy::CopyWorkers workers;
  Clock* clock = nullptr;
};

// What the end means for the graph. On the graph-command worker, as the Job methods of these names.
struct MirrorHooks {
  std::function<std::unique_ptr<GuestHold>()> hold_guests;
  // The guests are held. An error is the job's.
  std::function<absl::Status(Ending ending)> prepare;
  // The guests are held. What somebody has changed since the last step is brought to the target by
  // MirrorJob::copy.
  std::function<void(Ending ending)> commit;
  // Last, always.
  std::function<void()> clean;
};

class MirrorJob final : public Job {
 public:
  // Disks of two sizes are no refusal, but the job's error.
  static std::unique_ptr<MirrorJob> Make(MirrorParts parts, MirrorHooks hooks);

  // The filter's part of it.
  const std::shared_ptr<copy::MirrorCopy>& copy() const { return copy_; }

  void OnStart(std::function<void()> waker) override { copy_->set_waker(std::move(waker)); }
  absl::StatusOr<StepResult> Step(uint64_t budget_bytes) override;
  bool Drain() override { return copy_->Drain(); }
  void OnResume() override { copy_->OnResume(); }
  void OnCancel() override { copy_->Stop(); }
  absl::optional<IoError> TakeError() override { return copy_->TakeError(); }
  void OnEnding(Ending ending) override;
  absl::Status Change(CopyMode mode) override;
  Progress progress() const override { return copy_->progress(); }
  absl::optional<bool> actively_synced() const override { return copy_->is_actively_synced(); }
  absl::StatusOr<std::unique_ptr<GuestHold>> HoldGuests(absl::Duration timeout) override;
  absl::Status LastStep() override { return copy_->CatchUp(); }
  absl::Status Prepare() override;
  void Commit() override;
  void Abort() override { copy_->Finish(); }
  void Clean() override;

 private:
  MirrorJob(std::shared_ptr<copy::MirrorCopy> copy, MirrorHooks hooks, absl::Status failure)
      : copy_(std::move(copy)), hooks_(std::move(hooks)), failure_(std::move(failure)) {}

  // Constant after construction.
  const std::shared_ptr<copy::MirrorCopy> copy_;
  const MirrorHooks hooks_;
  const absl::Status failure_;  // Of the first step.

  std::atomic<Ending> ending_ = Ending::kStopInSync;
};

}  // namespace tidemark::job

#endif  // ENGINE_JOB_MIRROR_JOB_H_
