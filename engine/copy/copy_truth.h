// What is still to be copied, and what guests must not change yet: the truth that the background
// path and the guest path of a copy share.
//
// Each cluster is in one of four states, told by two bits:
//
//   to copy  guarded
//     yes      yes     nobody works on it; whoever clears `to copy` has claimed it
//     no       yes     somebody has claimed it, and its old data is not safe yet: guests wait
//     no       no      safe: in memory or in the target, or it never was to be copied
//     yes      no      lost again: it was safe in memory, and did not reach the target
//
// A guest that meets what another guest has claimed waits: for a read of the source, no more. What
// the background has claimed and not settled yet (`takeable`) it takes over, and reads it itself:
// so no guest waits for what the background waits for. What the background has read of it is then
// not used, because it may have been read after the guest went on.
//
// Safe never becomes guarded again. So whatever of a stretch was guarded when its read had ended
// was guarded all the while, and what was read is its old data.
//
// If the target is read meanwhile and shows the source where it holds nothing (fleecing), what was
// written to it is `fresh` until those have gone who looked before it was there: only then may the
// source change. It is fresh before it is no longer guarded.
//
// A copy that is given up is opened: guests are let through from then on, so whoever has read old
// data looks whether it was still closed then, and unclaims otherwise.
//
// Thread rule: any thread. Guests take the lock only for clusters that are guarded.
#ifndef ENGINE_COPY_COPY_TRUTH_H_
#define ENGINE_COPY_COPY_TRUTH_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/types/optional.h"
#include "engine/base/mutex.h"
#include "engine/base/range.h"
#include "engine/bitmap/dirty_bitmap.h"
#include "engine/copy/copy_claims.h"
#include "engine/copy/disk_bytes.h"
#include "engine/copy/step.h"

namespace tidemark::copy {

class CopyTruth final : public CopyClaims {
 public:
  // One bit for each cluster. `target_is_read`: guests wait for readers of the target, too.
  explicit CopyTruth(std::unique_ptr<bitmap::DirtyBitmap> to_copy, bool target_is_read = false);

  uint64_t cluster_bytes() const { return to_copy_->granularity_bytes(); }
  const bitmap::DirtyBitmap& to_copy() const { return *to_copy_; }
  Progress progress() const;
  // What the bits take beside this. Any thread.
  uint64_t memory_bytes() const;

  // The background's claims; guests end theirs by the same verbs, without Settle.
  uint64_t size_bytes() const override { return to_copy_->size_bytes(); }
  bool IsEmpty() const override { return to_copy_->IsEmpty(); }
  bool is_open() const override { return open_.load(); }
  absl::optional<Range> Claim(uint64_t from_bytes, uint64_t length_bytes_max) override;
  std::vector<Range> Settle(Range range) override;
  void Release(Range range) override;
  void Written(Range range) override;
  void Skip(Range range) override;
  void Unclaim(Range range) override;
  void Lose(Range range) override;

  // The target could not be flushed: all that is in it is to be copied again. Nothing is claimed.
  void LoseWritten();

  // Guests: whether something in `range` (whole clusters) must not be changed yet.
  bool IsGuarded(Range range) const;
  // Waits until nothing in `range` is guarded (absent), or claims the first stretch of it that
  // nobody works on, or the background, from which it is taken over. `look_around` is called from
  // time to time, with no lock held.
  absl::optional<Range> ClaimOrAwait(Range range, uint64_t length_bytes_max,
                                     const std::function<void()>& look_around);
  // Whether something in `range`, of which nothing is guarded any more, has been written to the
  // target and may still be missed by somebody who looked for it there before.
  bool AwaitsReaders(Range range) const;
  // It may not any more.
  void ReadersGone(Range range);
  // Lets all guests through, now and later: nothing is guarded any more.
  void Open();

 private:
  // Takes the first stretch of `bits` that lies in `range`.
  static bool HasAny(const bitmap::DirtyBitmap& bits, Range range);
  static absl::optional<Range> Take(bitmap::DirtyBitmap* bits, Range range,
                                    uint64_t length_bytes_max);

  // Constant after construction.
  const std::unique_ptr<bitmap::DirtyBitmap> to_copy_;
  const std::unique_ptr<bitmap::DirtyBitmap> guarded_;
  const std::unique_ptr<bitmap::DirtyBitmap> takeable_;
  const std::unique_ptr<bitmap::DirtyBitmap> written_;
  const std::unique_ptr<bitmap::DirtyBitmap> fresh_;  // Null if nobody reads the target.

  std::atomic<uint64_t> copied_bytes_ = 0;
  std::atomic<uint64_t> total_bytes_;
  std::atomic<bool> open_ = false;

  // Orders claims, releases and waits; the bits themselves can be read without it.
  Mutex mutex_;
  CondVar changed_;
};

}  // namespace tidemark::copy

#endif  // ENGINE_COPY_COPY_TRUTH_H_
