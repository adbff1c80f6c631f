// blockdev-backup as a job: a copy::BlockCopy with the policy of a sync mode.
//
// Whoever makes the job puts its `copy()` before the guest's writes (a copy-before-write filter on
// the source) at the moment the backup is to show, and takes it away in a hook at the end.
#ifndef ENGINE_JOB_BACKUP_JOB_H_
#define ENGINE_JOB_BACKUP_JOB_H_

#include <functional>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/clock.h"
#include "engine/bitmap/dirty_bitmap.h"
#include "engine/bitmap/early_copy.h"
#include "engine/copy/copier.h"
#include "engine/job/backup_options.h"
#include "engine/job/copy_job.h"
#include "engine/storage/storage.h"

namespace tidemark::job {

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
  // Of these, made ahead at the granularity UnitBytes; may be null, and is used up. With it the job
  // costs little to make, however many bits there are.
  bitmap::EarlyCopy* early_bits = nullptr;
  // The target is fresh and has no backing image.
  bool target_is_zero = false;
  // The source is below the target: fleecing. Guest writes then wait for the target, and for those
  // who read it (copy::CopyOptions::await_target_reads; may be null).
  bool target_shows_source = false;
  std::function<bool(Range, const std::function<bool()>&)> await_target_reads;
  copy::CopyWorkers workers;
  Clock* clock = nullptr;
};

class BackupJob final : public CopyJob {
 public:
  // Refuses disks of different sizes or too large, a target that cannot compress when asked to, and
  // x-perf out of its limits. Does no I/O. `options` have passed ValidateBitmapChoice.
  static absl::StatusOr<std::unique_ptr<BackupJob>> Make(const BackupOptions& options,
                                                         BackupParts parts, CopyHooks hooks);

  // The copy unit, in which it counts what is to be copied.
  static uint64_t UnitBytes(const BackupOptions& options, const storage::Limits& target);

 private:
  BackupJob(std::shared_ptr<copy::BlockCopy> copy, CopyHooks hooks)
      : CopyJob(std::move(copy), std::move(hooks)) {}
};

}  // namespace tidemark::job

#endif  // ENGINE_JOB_BACKUP_JOB_H_
