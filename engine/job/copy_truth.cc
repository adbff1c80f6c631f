#include "engine/job/copy_truth.h"

#include <algorithm>
#include <utility>

#include "engine/job/limits.h"

namespace tidemark::job {

CopyTruth::CopyTruth(std::unique_ptr<bitmap::DirtyBitmap> to_copy)
    : to_copy_(std::move(to_copy)),
      guarded_(std::make_unique<bitmap::DirtyBitmap>(to_copy_->size_bytes(),
                                                     to_copy_->granularity_bytes())),
      total_bytes_(Bytes(*to_copy_)) {
  guarded_->Merge(*to_copy_);
}

// Unlike the bitmap's own count, without what the last cluster has past the end of the disk.
uint64_t CopyTruth::Bytes(const bitmap::DirtyBitmap& bits) const {
  const uint64_t size_bytes = bits.size_bytes();
  uint64_t bytes = bits.CountBytes();
  const uint64_t tail_bytes = size_bytes % bits.granularity_bytes();
  if (tail_bytes > 0 && bits.IsDirty(size_bytes - 1)) {
    bytes -= bits.granularity_bytes() - tail_bytes;
  }
  return bytes;
}

Progress CopyTruth::progress() const { return {copied_bytes_.load(), total_bytes_.load()}; }

absl::optional<Range> CopyTruth::Claim(uint64_t from_bytes, uint64_t length_bytes_max) {
  MutexLock lock(&mutex_);
  return to_copy_->TakeNextDirty(from_bytes, length_bytes_max);
}

std::vector<Range> CopyTruth::Settle(Range range) { return {range}; }

void CopyTruth::Release(Range range) {
  {
    MutexLock lock(&mutex_);
    guarded_->Clear(range);
  }
  changed_.SignalAll();
}

void CopyTruth::Written(Range range) {
  copied_bytes_ += range.length_bytes;
  Release(range);
}

void CopyTruth::Skip(Range range) {
  total_bytes_ -= range.length_bytes;
  Release(range);
}

void CopyTruth::Unclaim(Range range) {
  {
    MutexLock lock(&mutex_);
    to_copy_->Set(range);
  }
  changed_.SignalAll();
}

void CopyTruth::Lose(Range range) { Unclaim(range); }

bool CopyTruth::IsGuarded(Range range) const {
  if (is_open()) return false;
  const uint64_t step_bytes = cluster_bytes();
  for (uint64_t at = range.offset_bytes; at < range.end_bytes(); at += step_bytes) {
    if (guarded_->IsDirty(at)) return true;
  }
  return false;
}

absl::optional<Range> CopyTruth::ClaimOrAwait(Range range, uint64_t length_bytes_max,
                                              const std::function<void()>& look_around) {
  for (;;) {
    look_around();
    MutexLock lock(&mutex_);
    if (is_open()) return absl::nullopt;
    const absl::optional<Range> free = to_copy_->NextDirty(range.offset_bytes, length_bytes_max);
    if (free.has_value() && free->Overlaps(range)) {
      const Range claimed = free->Intersect(range);
      to_copy_->Clear(claimed);
      return claimed;
    }
    if (!IsGuarded(range)) return absl::nullopt;
    changed_.WaitFor(&mutex_, kGuestLookAround);
  }
}

void CopyTruth::Open() {
  {
    MutexLock lock(&mutex_);
    open_ = true;
  }
  changed_.SignalAll();
}

}  // namespace tidemark::job
