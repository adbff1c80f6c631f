#include "engine/copy/copy_truth.h"

#include <algorithm>
#include <utility>

#include "engine/base/check.h"
#include "engine/copy/limits.h"

namespace tidemark::copy {

namespace {

// The first dirty stretch in `range`. What a guest writes is a few clusters: the search ends with
// them, not with the next dirty cluster of the disk.
absl::optional<Range> FirstDirty(const bitmap::DirtyBitmap& bits, Range range,
                                 uint64_t length_bytes_max) {
  constexpr int kLookedAtOneByOne = 64;
  uint64_t at = range.offset_bytes;
  for (int i = 0; i < kLookedAtOneByOne && !bits.IsDirty(at); ++i) {
    at += bits.granularity_bytes();
    if (at >= range.end_bytes()) return absl::nullopt;
  }
  const absl::optional<Range> dirty = bits.NextDirty(at, length_bytes_max);
  if (!dirty.has_value() || !dirty->Overlaps(range)) return absl::nullopt;
  return dirty->Intersect(range);
}

}  // namespace

CopyTruth::CopyTruth(std::unique_ptr<bitmap::DirtyBitmap> to_copy, bool target_is_read)
    : to_copy_(std::move(to_copy)),
      guarded_(to_copy_->Copy()),
      takeable_(to_copy_->Empty()),
      written_(to_copy_->Empty()),
      fresh_(target_is_read ? to_copy_->Empty() : nullptr),
      total_bytes_(DiskBytesOf(*to_copy_)) {}

uint64_t CopyTruth::memory_bytes() const {
  return to_copy_->MemoryBytes() + guarded_->MemoryBytes() + takeable_->MemoryBytes() +
         written_->MemoryBytes() + (fresh_ != nullptr ? fresh_->MemoryBytes() : 0);
}

Progress CopyTruth::progress() const { return {copied_bytes_.load(), total_bytes_.load()}; }

absl::optional<Range> CopyTruth::Claim(uint64_t from_bytes, uint64_t length_bytes_max) {
  MutexLock lock(&mutex_);
  const absl::optional<Range> claimed = to_copy_->TakeNextDirty(from_bytes, length_bytes_max);
  if (claimed.has_value()) takeable_->Set(*claimed);
  return claimed;
}

absl::optional<Range> CopyTruth::Take(bitmap::DirtyBitmap* bits, Range range,
                                      uint64_t length_bytes_max) {
  const absl::optional<Range> dirty = FirstDirty(*bits, range, length_bytes_max);
  if (dirty.has_value()) bits->Clear(*dirty);
  return dirty;
}

std::vector<Range> CopyTruth::Settle(Range range) {
  std::vector<Range> own;
  MutexLock lock(&mutex_);
  while (!range.empty()) {
    const absl::optional<Range> part = Take(takeable_.get(), range, range.length_bytes);
    if (!part.has_value()) break;
    own.push_back(*part);
    range = Range::FromTo(part->end_bytes(), range.end_bytes());
  }
  return own;
}

void CopyTruth::Release(Range range) {
  {
    MutexLock lock(&mutex_);
    guarded_->Clear(range);
  }
  changed_.SignalAll();
}

void CopyTruth::Written(Range range) {
  written_->Set(range);
  if (fresh_ != nullptr) fresh_->Set(range);
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

void CopyTruth::LoseWritten() {
  MutexLock lock(&mutex_);
  const absl::Status merged = to_copy_->Merge(*written_);
  CHECK(merged.ok());  // They are of one size.
}

bool CopyTruth::HasAny(const bitmap::DirtyBitmap& bits, Range range) {
  const uint64_t step_bytes = bits.granularity_bytes();
  for (uint64_t at = range.offset_bytes; at < range.end_bytes(); at += step_bytes) {
    if (bits.IsDirty(at)) return true;
  }
  return false;
}

bool CopyTruth::IsGuarded(Range range) const { return !is_open() && HasAny(*guarded_, range); }

bool CopyTruth::AwaitsReaders(Range range) const {
  return fresh_ != nullptr && !is_open() && HasAny(*fresh_, range);
}

void CopyTruth::ReadersGone(Range range) { fresh_->Clear(range); }

absl::optional<Range> CopyTruth::ClaimOrAwait(Range range, uint64_t length_bytes_max,
                                              const std::function<void()>& look_around) {
  for (;;) {
    look_around();
    MutexLock lock(&mutex_);
    if (is_open()) return absl::nullopt;
    for (bitmap::DirtyBitmap* const bits : {to_copy_.get(), takeable_.get()}) {
      const absl::optional<Range> claimed = Take(bits, range, length_bytes_max);
      if (claimed.has_value()) return claimed;
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

}  // namespace tidemark::copy
