// blockdev-backup as a job: a copy::BlockCopy with the policy of a sync mode.
//
// Whoever makes the job puts its `copy()` before the guest's writes (a copy-before-write filter on
// the source) at the moment the backup is to show, and takes it away in a hook at the end. The job
// itself knows neither graph nor named bitmaps: the hooks do.
#ifndef ENGINE_JOB_BACKUP_JOB_H_
#define ENGINE_JOB_BACKUP_JOB_H_

#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/clock.h"
#include "engine/bitmap/dirty_bitmap.h"
#include "engine/copy/copier.h"
#include "engine/job/backup_options.h"
#include "engine/job/job.h"
#include "engine/storage/storage.h"

namespace tidemark::job {

// What the end of a backup means for graph and bitmaps. Each may be empty. Called on the
// graph-command worker as the Job methods of the same names; `not_copied` is what the target lacks,
// one bit per copy unit.
struct BackupHooks {
  std::function<absl::Status()> prepare;
  std::function<void(const bitmap::DirtyBitmap& not_copied)> commit;
  std::function<void(const bitmap::DirtyBitmap& not_copied)> abort;
  // Last, always: filter away (if commit and abort have not done so), nodes let go.
  std::function<void()> clean;
};

struct BackupParts {
  // The source below the filter, and the target: ports that are not gated (see copier.h). Idle from
  // `commit` or `abort` on.
  std::shared_ptr<storage::Storage> source;
  std::shared_ptr<storage::Storage> target;
  // Named in refusals.
  std::string source_node;
  std::string target_node;
  // The bits that sync=incremental and sync=bitmap copy; read while the job is made. The caller
  // sees to it that nobody sets more of them meanwhile (gates closed, or a frozen bitmap). Null for
  // the other modes.
  const bitmap::DirtyBitmap* bits = nullptr;
  // The target is fresh and has no backing image.
  bool target_is_zero = false;
  // The source is below the target: fleecing. Guest writes then wait for the target, and for those
  // who read it (copy::CopyOptions::await_target_reads; may be null).
  bool target_shows_source = false;
  std::function<bool(Range, const std::function<bool()>&)> await_target_reads;
  copy::CopyWorkers workers;
  Clock* clock = nullptr;
};

class BackupJob final : public Job {
 public:
  // Refuses disks of different sizes or too large, a target that cannot compress when asked to, and
  // x-perf out of its limits. Does no I/O. `options` have passed ValidateBitmapChoice.
  static absl::StatusOr<std::unique_ptr<BackupJob>> Make(const BackupOptions& options,
                                                         BackupParts parts, BackupHooks hooks);

  // To stand before guest writes. Safe to keep longer than the job; does nothing then.
  const std::shared_ptr<copy::BlockCopy>& copy() const { return copy_; }

  void OnStart(std::function<void()> waker) override;
  absl::StatusOr<StepResult> Step(uint64_t budget_bytes) override;
  bool Drain() override;
  void OnResume() override;
  void OnCancel() override;
  absl::Status lost() const override;
  absl::optional<IoError> TakeError() override;
  Progress progress() const override;
  absl::Status Prepare() override;
  void Commit() override;
  void Abort() override;
  void Clean() override;

 private:
  BackupJob(std::shared_ptr<copy::BlockCopy> copy, BackupHooks hooks);

  const std::shared_ptr<copy::BlockCopy> copy_;
  const BackupHooks hooks_;
};

}  // namespace tidemark::job

#endif  // ENGINE_JOB_BACKUP_JOB_H_
