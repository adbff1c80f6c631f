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
// A copy that is given up is opened: guests are let through from then on, so whoever has read old
// data looks whether it was still closed then, and unclaims otherwise.
//
// Thread rule: any thread. Guests take the lock only for clusters that are guarded.
#ifndef ENGINE_JOB_COPY_TRUTH_H_
#define ENGINE_JOB_COPY_TRUTH_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>

#include "absl/types/optional.h"
#include "engine/base/mutex.h"
#include "engine/base/range.h"
#include "engine/bitmap/dirty_bitmap.h"
#include "engine/job/job.h"

namespace tidemark::job {

class CopyTruth {
 public:
  // One bit for each cluster.
  explicit CopyTruth(std::unique_ptr<bitmap::DirtyBitmap> to_copy);

  uint64_t cluster_bytes() const { return to_copy_->granularity_bytes(); }
  const bitmap::DirtyBitmap& to_copy() const { return *to_copy_; }
  Progress progress() const;

  // Claims the first stretch to copy at or after `from_bytes`, at most `length_bytes_max` long
  // (but a cluster).
  absl::optional<Range> Claim(uint64_t from_bytes, uint64_t length_bytes_max);

  // What the claimer does with it in the end: one of the next four for every byte of it.
  // Guests may change it: the old data is in memory. Written or Lose follows.
  void Release(Range range);
  // It is in the target.
  void Written(Range range);
  // It does not belong to the copy after all.
  void Skip(Range range);
  // It could not be read or written: to be copied again. Only for what was not released.
  void Unclaim(Range range);
  // It was released, and will not reach the target.
  void Lose(Range range);

  // Guests: whether something in `range` (whole clusters) must not be changed yet.
  bool IsGuarded(Range range) const;
  // Waits until nothing in `range` is guarded (absent), or claims the first stretch of it that
  // nobody works on. `look_around` is called from time to time, with no lock held.
  absl::optional<Range> ClaimOrAwait(Range range, uint64_t length_bytes_max,
                                     const std::function<void()>& look_around);
  // Lets all guests through, now and later: nothing is guarded any more.
  void Open();
  bool is_open() const { return open_.load(); }

 private:
  uint64_t Bytes(const bitmap::DirtyBitmap& bits) const;

  // Constant after construction.
  const std::unique_ptr<bitmap::DirtyBitmap> to_copy_;
  const std::unique_ptr<bitmap::DirtyBitmap> guarded_;

  std::atomic<uint64_t> copied_bytes_ = 0;
  std::atomic<uint64_t> total_bytes_;
  std::atomic<bool> open_ = false;

  // Orders claims, releases and waits; the bits themselves can be read without it.
  Mutex mutex_;
  CondVar changed_;
};

}  // namespace tidemark::job

#endif  // ENGINE_JOB_COPY_TRUTH_H_
