#include "engine/graph/tracking.h"

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"

namespace tidemark::graph {

using storage::Placement;

void TrackedBitmaps::Set(List recording, List all, SizeCheck check) {
  uint64_t smallest_bytes = all.empty() ? 0 : all.front()->size_bytes();
  MutexLock lock(&mutex_);
  for (const auto& bits : all) smallest_bytes = std::min(smallest_bytes, bits->size_bytes());
  recording_ = std::move(recording);
  all_ = std::move(all);
  check_ = std::move(check);
  size_bytes_.store(smallest_bytes, std::memory_order_release);
  any_.store(!all_.empty(), std::memory_order_release);
}

void TrackedBitmaps::MarkEach(Range range, const storage::Storage& disk) {
  uint64_t resizes = 0;
  const auto mark = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (const auto& bits : recording_) bits->Set(range);
  };
  {
    MutexLock lock(&mutex_);
    if (!range.empty() && range.FitsIn(size_bytes_)) return mark();
    resizes = resizes_;
  }
  for (;;) {
    // Asked without the lock, and so only a hint: others grow the disk and mark meanwhile.
    const uint64_t size_bytes = disk.size_bytes();
    MutexLock lock(&mutex_);
    if (resizes_ == resizes) {
      ResizeEach(size_bytes, /*may_shrink=*/false);
      return mark();
    }
    resizes = resizes_;
  }
}

absl::Status TrackedBitmaps::CheckResize(uint64_t size_bytes) {
  MutexLock lock(&mutex_);
  for (const auto& bits : all_) {
    if (bitmap::DirtyBitmap::GranuleCount(size_bytes, bits->granularity_bytes()) <=
        bits->granule_count_max()) {
      continue;
    }
    return Error(Reason::kLimitReached,
                 absl::StrCat("a bitmap of granularity ", bits->granularity_bytes(),
                              " cannot follow to a disk of ", size_bytes, " bytes"));
  }
  // What is too large already may become smaller.
  return check_ == nullptr || size_bytes <= size_bytes_ ? absl::OkStatus() : check_(size_bytes);
}

void TrackedBitmaps::MergeInto(bitmap::DirtyBitmap* bits, const bitmap::DirtyBitmap& source) {
  MutexLock lock(&mutex_);
  const std::unique_ptr<bitmap::DirtyBitmap> fitted = source.Copy();
  if (fitted->Resize(bits->size_bytes()).ok() && bits->Merge(*fitted).ok()) return;
  // Of other granularity it may not reach so far. What may be dirty is not to be missed.
  bits->SetAll();
}

void TrackedBitmaps::Resize(uint64_t size_bytes) {
  MutexLock lock(&mutex_);
  ++resizes_;
  ResizeEach(size_bytes, /*may_shrink=*/true);
}

void TrackedBitmaps::Follow(const storage::Storage& disk) {
  MutexLock lock(&mutex_);
  ++resizes_;
  // Asked now: a mark that is made later knows of at least this size.
  ResizeEach(disk.size_bytes(), /*may_shrink=*/true);
}

void TrackedBitmaps::ResizeEach(uint64_t size_bytes, bool may_shrink) {
  for (const auto& bits : all_) {
    const uint64_t before = bits->size_bytes();
    if (before == size_bytes || (before > size_bytes && !may_shrink)) continue;
    // One that cannot follow stays as it is: CheckGrowth refuses to write beyond it.
    bits->Resize(size_bytes).IgnoreError();
  }
  if (all_.empty()) return;
  uint64_t smallest_bytes = all_.front()->size_bytes();
  for (const auto& bits : all_) smallest_bytes = std::min(smallest_bytes, bits->size_bytes());
  size_bytes_.store(smallest_bytes, std::memory_order_release);
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
  if (!options.unchanged) bitmaps_->Mark({offset_bytes, data.size()}, next());
  return status;
}

absl::Status TrackingStorage::WriteZeroes(Range range, storage::ZeroOptions options) {
  RETURN_IF_ERROR(bitmaps_->CheckGrowth(range, next()));
  absl::Status status = next().WriteZeroes(range, options);
  if (!options.unchanged) bitmaps_->Mark(range, next());
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
