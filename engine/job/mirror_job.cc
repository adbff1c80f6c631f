#include "engine/job/mirror_job.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"

namespace tidemark::job {
namespace {

// Zeroes take the space that data would.
class AllocatingTarget final : public storage::ForwardingStorage {
 public:
  using ForwardingStorage::ForwardingStorage;
  absl::Status WriteZeroes(Range range, storage::ZeroOptions options) override {
    options.may_unmap = false;
    return ForwardingStorage::WriteZeroes(range, options);
  }
};

}  // namespace

std::unique_ptr<MirrorJob> MirrorJob::Make(MirrorParts parts, MirrorHooks hooks) {
  absl::Status failure;
  const uint64_t source_bytes = parts.source->size_bytes();
  const uint64_t target_bytes = parts.target->size_bytes();
  if (source_bytes != target_bytes) {
    failure = Error(Reason::kSizeMismatch,
                    absl::StrCat("node '", parts.source_node, "' of ", source_bytes,
                                 " bytes cannot be mirrored to node '", parts.target_node, "' of ",
                                 target_bytes, " bytes: their sizes differ"),
                    {{"source", parts.source_node}, {"target", parts.target_node}});
    parts.dirty->ClearAll();
  }
  if (!parts.zeroes_may_unmap) {
    parts.target = std::make_shared<AllocatingTarget>(std::move(parts.target));
  }
  copy::CopyOptions options;
  options.cluster_bytes = parts.dirty->granularity_bytes();
  options.only_top_layer = parts.only_top_layer;
  if (parts.in_flight_bytes_max != 0) {
    options.in_flight_bytes_max = std::max(
        options.cluster_bytes, std::min(parts.in_flight_bytes_max, options.in_flight_bytes_max));
    options.chunk_bytes_max = std::min(options.chunk_bytes_max, options.in_flight_bytes_max);
  }
  std::shared_ptr<copy::MirrorCopy> copy =
      copy::MirrorCopy::Make(std::move(parts.source), std::move(parts.target),
                             std::move(parts.dirty), options, parts.workers, parts.clock);
  if (parts.copy_mode == CopyMode::kWriteBlocking) copy->SetWriteBlocking();
  if (!failure.ok()) copy->Stop();
  // Not make_unique: the constructor is private.
  return std::unique_ptr<MirrorJob>(
      new MirrorJob(std::move(copy), std::move(hooks), std::move(failure)));
}

absl::StatusOr<StepResult> MirrorJob::Step(uint64_t budget_bytes) {
  RETURN_IF_ERROR(failure_);
  return copy_->Step(budget_bytes);
}

void MirrorJob::OnEnding(Ending ending) {
  ending_ = ending;
  copy_->End();
}

absl::Status MirrorJob::Change(CopyMode mode) {
  if (mode == CopyMode::kWriteBlocking) {
    copy_->SetWriteBlocking();
    return absl::OkStatus();
  }
  return Error(Reason::kFeatureUnsupported, "a change to copy mode 'background' is not possible",
               {{"copy_mode", "background"}});
}

absl::StatusOr<std::unique_ptr<GuestHold>> MirrorJob::HoldGuests(absl::Duration) {
  if (hooks_.hold_guests == nullptr) return nullptr;
  // A job that was pending for long, or a target that has to flush much, is no reason to hold them.
  RETURN_IF_ERROR(copy_->ComeClose());
  return hooks_.hold_guests();
}

absl::Status MirrorJob::Prepare() {
  return hooks_.prepare != nullptr ? hooks_.prepare(ending_) : absl::OkStatus();
}

void MirrorJob::Commit() {
  if (hooks_.commit != nullptr) hooks_.commit(ending_);
}

void MirrorJob::Clean() {
  if (hooks_.clean != nullptr) hooks_.clean();
}

}  // namespace tidemark::job
