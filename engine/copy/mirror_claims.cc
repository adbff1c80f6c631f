#include "engine/copy/mirror_claims.h"

#include <algorithm>

#include "engine/copy/limits.h"

namespace tidemark::copy {

Progress MirrorClaims::progress() const {
  const uint64_t copied_bytes = copied_bytes_;
  return {copied_bytes, copied_bytes + claimed_bytes_ + to_copy_bytes()};
}

bool MirrorClaims::IsInFlightLocked(Range range) const {
  const absl::optional<Range> next = in_flight_->NextDirty(range.offset_bytes, 1);
  return next.has_value() && next->offset_bytes < range.end_bytes();
}

absl::optional<Range> MirrorClaims::FindFreeLocked(uint64_t from_bytes,
                                                   uint64_t length_bytes_max) const {
  const uint64_t granularity_bytes = dirty_->granularity_bytes();
  const uint64_t length_max =
      std::max(granularity_bytes, length_bytes_max & ~(granularity_bytes - 1));
  uint64_t at = from_bytes & ~(granularity_bytes - 1);
  while (at < size_bytes()) {
    const absl::optional<Range> dirty = dirty_->NextDirty(at, length_max);
    if (!dirty.has_value()) return absl::nullopt;
    if (in_flight_->IsDirty(dirty->offset_bytes)) {
      at = in_flight_->NextClean(dirty->offset_bytes);
      continue;
    }
    const absl::optional<Range> busy = in_flight_->NextDirty(dirty->offset_bytes, 1);
    const uint64_t end =
        busy.has_value() ? std::min(dirty->end_bytes(), busy->offset_bytes) : dirty->end_bytes();
    return Range::FromTo(dirty->offset_bytes, end);
  }
  return absl::nullopt;
}

bool MirrorClaims::IsEmpty() const {
  MutexLock lock(&mutex_);
  return !FindFreeLocked(0, 1).has_value();
}

bool MirrorClaims::is_in_sync() const { return claimed_bytes_ == 0 && IsEmpty(); }

absl::optional<Range> MirrorClaims::Claim(uint64_t from_bytes, uint64_t length_bytes_max) {
  MutexLock lock(&mutex_);
  const absl::optional<Range> claimed = FindFreeLocked(from_bytes, length_bytes_max);
  if (!claimed.has_value()) return absl::nullopt;
  in_flight_->Set(*claimed);
  claimed_bytes_ += claimed->length_bytes;
  // Before it is read: what changes from now on is marked again.
  dirty_->Clear(*claimed);
  return claimed;
}

void MirrorClaims::Land(Range range) {
  {
    MutexLock lock(&mutex_);
    in_flight_->Clear(range);
    claimed_bytes_ -= range.length_bytes;
  }
  changed_.SignalAll();
}

void MirrorClaims::Written(Range range) {
  copied_bytes_ += range.length_bytes;
  Land(range);
}

void MirrorClaims::Skip(Range range) { Land(range); }

void MirrorClaims::Unclaim(Range range) {
  dirty_->Set(range);
  Land(range);
}

void MirrorClaims::Open() {
  {
    MutexLock lock(&mutex_);
    open_ = true;
  }
  changed_.SignalAll();
}

// All that the change covers; of what it covers in part, at either end, what is equal now.
Range MirrorClaims::EqualAfterLocked(Range granules, Range change) const {
  const uint64_t granularity_bytes = dirty_->granularity_bytes();
  Range equal = granules;
  if (change.offset_bytes > granules.offset_bytes && dirty_->IsDirty(granules.offset_bytes)) {
    equal = Range::FromTo(granules.offset_bytes + granularity_bytes, granules.end_bytes());
  }
  if (!equal.empty() && change.end_bytes() < granules.end_bytes() &&
      dirty_->IsDirty(granules.end_bytes() - 1)) {
    const uint64_t last = (granules.end_bytes() - 1) & ~(granularity_bytes - 1);
    equal = Range::FromTo(equal.offset_bytes, last);
  }
  return equal;
}

absl::optional<MirrorClaims::TurnHandle> MirrorClaims::BeginTurn(
    Range range, const std::function<bool()>& gives_up) {
  Turn turn;
  turn.range_ = range.AlignedOut(dirty_->granularity_bytes()).Intersect({0, size_bytes()});
  for (;;) {
    if (gives_up()) return absl::nullopt;
    MutexLock lock(&mutex_);
    if (is_open()) return absl::nullopt;
    if (IsInFlightLocked(turn.range_)) {
      changed_.WaitFor(&mutex_, kGuestLookAround);
      continue;
    }
    in_flight_->Set(turn.range_);
    turn.equal_after_ = EqualAfterLocked(turn.range_, range);
    turns_.push_front(turn);
    return turns_.begin();
  }
}

void MirrorClaims::EndTurn(TurnHandle turn, bool in_target) {
  {
    MutexLock lock(&mutex_);
    if (in_target && !turn->changed_behind_) {
      if (!turn->equal_after_.empty()) dirty_->Clear(turn->equal_after_);
    }
    in_flight_->Clear(turn->range_);
    turns_.erase(turn);
  }
  changed_.SignalAll();
}

void MirrorClaims::ChangedBehind(Range range) {
  MutexLock lock(&mutex_);
  for (Turn& turn : turns_) turn.changed_behind_ |= turn.range_.Overlaps(range);
  // A turn that has ended meanwhile may have taken the mark away.
  dirty_->Set(range);
}

}  // namespace tidemark::copy
