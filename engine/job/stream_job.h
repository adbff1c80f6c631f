// block-stream as a job: what the images below a disk hold is copied up into the disk itself, so
// that it needs them no more. Guests read and write meanwhile, and see nothing of it.
#ifndef ENGINE_JOB_STREAM_JOB_H_
#define ENGINE_JOB_STREAM_JOB_H_

#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/clock.h"
#include "engine/copy/copier.h"
#include "engine/job/copy_job.h"
#include "engine/storage/storage.h"

namespace tidemark::job {

struct StreamParts {
  // For refusals.
  std::string job_id;
  std::string node;
  // The disk: a port that is not gated (see copier.h). Idle from `commit` or `abort` on.
  std::shared_ptr<storage::Storage> disk;
  // How many images directly below the disk are copied up. 0: nothing is to be copied.
  int layer_count = 0;
  // No image stays below the disk: what is zero need not be stored.
  bool is_whole_chain = false;
  // on-error=ignore: what cannot be read or written is left out, and the job fails in the end.
  bool skips_failed = false;
  copy::CopyWorkers workers;
  Clock* clock = nullptr;
};

class StreamJob final : public CopyJob {
 public:
  // Refuses disks that are too large, and those that cannot tell what they hold nothing of. Does no
  // I/O.
  static absl::StatusOr<std::unique_ptr<StreamJob>> Make(StreamParts parts, CopyHooks hooks);

  absl::StatusOr<StepResult> Step(uint64_t budget_bytes) override;
  // The whole disk, as QEMU counts.
  Progress progress() const override;

 private:
  StreamJob(std::shared_ptr<copy::BlockCopy> copy, CopyHooks hooks, uint64_t total_bytes,
            bool skips_failed)
      : CopyJob(std::move(copy), std::move(hooks)),
        total_bytes_(total_bytes),
        skips_failed_(skips_failed) {}

  // Constant after construction.
  const uint64_t total_bytes_;
  const bool skips_failed_;

  // The stepping worker's own: what was left out first.
  absl::Status skipped_;
};

}  // namespace tidemark::job

#endif  // ENGINE_JOB_STREAM_JOB_H_
