#include "engine/job/stream_job.h"

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/bitmap/dirty_bitmap.h"
#include "engine/bitmap/limits.h"
#include "engine/copy/layers.h"

namespace tidemark::job {
namespace {

absl::Status CheckDisk(const StreamParts& parts, uint64_t size_bytes, uint64_t cluster_bytes) {
  if (!parts.disk->limits().can_write_unallocated) {
    return Error(Reason::kNodeLacksFeature,
                 absl::StrCat("stream job '", parts.job_id, "': node '", parts.node,
                              "' cannot take over what is below it"),
                 {{"job", parts.job_id}, {"node", parts.node}});
  }
  if (bitmap::DirtyBitmap::GranuleCount(size_bytes, cluster_bytes) > bitmap::kGranuleCountMax) {
    return Error(
        Reason::kLimitReached,
        absl::StrCat("stream job '", parts.job_id, "': node '", parts.node, "' of ", size_bytes,
                     " bytes is too large for copies in units of ", cluster_bytes, " bytes"),
        {{"job", parts.job_id}, {"node", parts.node}});
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<StreamJob>> StreamJob::Make(StreamParts parts, CopyHooks hooks) {
  const uint64_t size_bytes = parts.disk->size_bytes();
  copy::CopyOptions options;
  options.cluster_bytes = copy::CopyClusterBytes(parts.disk->limits());
  options.only_top_layer = true;
  options.target_is_zero = parts.is_whole_chain;
  options.skips_failed = parts.skips_failed;
  const bool copies = parts.layer_count > 0;
  if (copies) RETURN_IF_ERROR(CheckDisk(parts, size_bytes, options.cluster_bytes));
  // Without anything to copy it is done at once, having done nothing.
  const uint64_t total_bytes = copies ? size_bytes : 0;
  auto to_copy = std::make_unique<bitmap::DirtyBitmap>(total_bytes, options.cluster_bytes);
  to_copy->SetAll();
  auto source =
      std::make_shared<copy::LayersSource>(parts.disk, /*first=*/2, /*last=*/1 + parts.layer_count);
  std::shared_ptr<copy::BlockCopy> copy =
      copy::BlockCopy::Make(std::move(source), std::make_shared<copy::CopyUpTarget>(parts.disk),
                            std::move(to_copy), options, parts.workers, parts.clock);
  // Not make_unique: the constructor is private.
  return std::unique_ptr<StreamJob>(
      new StreamJob(std::move(copy), std::move(hooks), total_bytes, parts.skips_failed));
}

absl::StatusOr<StepResult> StreamJob::Step(uint64_t budget_bytes) {
  absl::StatusOr<StepResult> result = CopyJob::Step(budget_bytes);
  if (!result.ok()) return result;
  if (skips_failed_ && skipped_.ok() && result->io_error.has_value()) {
    skipped_ = result->io_error->status;
  }
  if (result->next == StepResult::Next::kDone && !skipped_.ok()) return skipped_;
  return result;
}

Progress StreamJob::progress() const {
  const Progress copied = CopyJob::progress();
  // What turned out not to be copied is done with, too.
  const uint64_t left_bytes = copied.total_bytes - copied.current_bytes;
  return {.current_bytes = total_bytes_ - left_bytes, .total_bytes = total_bytes_};
}

}  // namespace tidemark::job
