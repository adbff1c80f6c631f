#include "engine/graph/tracking.h"

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/bitmap/limits.h"

namespace tidemark::graph {

using storage::Placement;

namespace {

bool CanFollow(const bitmap::DirtyBitmap& bits, uint64_t size_bytes) {
  return bitmap::DirtyBitmap::GranuleCount(size_bytes, bits.granularity_bytes()) <=
         bitmap::kGranuleCountMax;
}

}  // namespace

void TrackedBitmaps::Set(List recording, List all) {
  MutexLock lock(&mutex_);
  recording_ = std::move(recording);
  all_ = std::move(all);
  any_.store(!all_.empty(), std::memory_order_release);
}

void TrackedBitmaps::MarkEach(Range range, uint64_t size_bytes) {
  MutexLock lock(&mutex_);
  ResizeEach(size_bytes);
  for (const auto& bits : recording_) bits->Set(range);
}

absl::Status TrackedBitmaps::CheckResize(uint64_t size_bytes) {
  MutexLock lock(&mutex_);
  for (const auto& bits : all_) {
    if (CanFollow(*bits, size_bytes)) continue;
    return Error(Reason::kLimitReached,
                 absl::StrCat("a bitmap of granularity ", bits->granularity_bytes(),
                              " cannot follow to a disk of ", size_bytes, " bytes"));
  }
  return absl::OkStatus();
}

void TrackedBitmaps::Resize(uint64_t size_bytes) {
  MutexLock lock(&mutex_);
  ResizeEach(size_bytes);
}

void TrackedBitmaps::Follow(const storage::Storage& disk) {
  MutexLock lock(&mutex_);
  // Asked now: a mark that is made later knows of at least this size.
  ResizeEach(disk.size_bytes());
}

void TrackedBitmaps::ResizeEach(uint64_t size_bytes) {
  for (const auto& bits : all_) {
    if (bits->size_bytes() == size_bytes) continue;
    // One that cannot stays as it is: whoever looks for it by its name will see.
    bits->Resize(size_bytes).IgnoreError();
  }
}

namespace {

class TrackedPlacement final : public Placement {
 public:
  TrackedPlacement(std::unique_ptr<Placement> placement, Range range, storage::Storage* storage,
                   std::shared_ptr<TrackedBitmaps> bitmaps)
      : placement_(std::move(placement)),
        range_(range),
        storage_(storage),
        bitmaps_(std::move(bitmaps)) {
    pieces_ = placement_->pieces();
  }
  ~TrackedPlacement() override {
    if (!marked_) bitmaps_->Mark(range_, *storage_);
  }

  absl::Status Finish() override {
    absl::Status status = placement_->Finish();
    bitmaps_->Mark(range_, *storage_);
    marked_ = true;
    return status;
  }

 private:
  const std::unique_ptr<Placement> placement_;
  const Range range_;
  storage::Storage* const storage_;
  const std::shared_ptr<TrackedBitmaps> bitmaps_;
  bool marked_ = false;
};

}  // namespace

absl::Status TrackingStorage::Write(uint64_t offset_bytes, storage::ConstBytes data,
                                    storage::WriteOptions options) {
  RETURN_IF_ERROR(bitmaps_->CheckGrowth({offset_bytes, data.size()}, next()));
  absl::Status status = next().Write(offset_bytes, data, options);
  bitmaps_->Mark({offset_bytes, data.size()}, next());
  return status;
}

absl::Status TrackingStorage::WriteZeroes(Range range, storage::ZeroOptions options) {
  RETURN_IF_ERROR(bitmaps_->CheckGrowth(range, next()));
  absl::Status status = next().WriteZeroes(range, options);
  bitmaps_->Mark(range, next());
  return status;
}

absl::Status TrackingStorage::Discard(Range range) {
  absl::Status status = next().Discard(range);
  bitmaps_->Mark(range, next());
  return status;
}

absl::Status TrackingStorage::Resize(uint64_t size_bytes) {
  RETURN_IF_ERROR(bitmaps_->CheckResize(size_bytes));
  absl::Status status = next().Resize(size_bytes);
  if (status.ok()) bitmaps_->Resize(size_bytes);
  return status;
}

absl::StatusOr<std::unique_ptr<Placement>> TrackingStorage::PlaceRead(Range range) {
  return next().PlaceRead(range);
}

absl::StatusOr<std::unique_ptr<Placement>> TrackingStorage::PlaceWrite(Range range) {
  RETURN_IF_ERROR(bitmaps_->CheckGrowth(range, next()));
  auto placement = next().PlaceWrite(range);
  if (!placement.ok() || *placement == nullptr) return placement;
  return std::make_unique<TrackedPlacement>(*std::move(placement), range, &next(), bitmaps_);
}

}  // namespace tidemark::graph
