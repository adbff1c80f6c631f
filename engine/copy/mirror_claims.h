// What a mirror has still to copy: the bitmap that records what changes at its source. A stretch on
// its way to the target, by the job or with a guest's own write, is nobody else's until it has
// arrived: of two writes to one place the older must not come last.
//
// A guest's change goes one of two ways. Behind: the source changes, the bitmap has it, and the job
// copies it later. Through: the guest takes a turn at the stretch, changes the source and the
// target, and what was equal before is equal again. Both ways at once at one place are told apart
// here: what was changed behind while somebody had a turn there stays to be copied.
//
// Thread rule: any thread.
#ifndef ENGINE_COPY_MIRROR_CLAIMS_H_
#define ENGINE_COPY_MIRROR_CLAIMS_H_

#include <atomic>
#include <functional>
#include <list>
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

class MirrorClaims final : public CopyClaims {
 public:
  // Every change of the source is in `dirty` once it has been made. Others only ever add to it.
  explicit MirrorClaims(std::shared_ptr<bitmap::DirtyBitmap> dirty) : MirrorClaims(dirty, dirty) {}

  // Grows as guests change what was copied.
  Progress progress() const;
  // What is to be copied, without what is on its way.
  uint64_t to_copy_bytes() const { return DiskBytesOf(*dirty_); }
  // Beside `dirty`.
  uint64_t memory_bytes() const { return in_flight_->MemoryBytes(); }
  // Source and target are the same, but for what guests change at this moment.
  bool is_in_sync() const;
  // The copy is given up: nobody waits here any more.
  void Open();

  // ---- The job's: see copy_claims.h. Empty: nothing can be claimed at the moment.
  uint64_t size_bytes() const override { return dirty_->size_bytes(); }
  bool IsEmpty() const override;
  bool is_open() const override { return open_.load(); }
  absl::optional<Range> Claim(uint64_t from_bytes, uint64_t length_bytes_max) override;
  std::vector<Range> Settle(Range range) override { return {range}; }
  void Release(Range) override {}
  void Written(Range range) override;
  void Skip(Range range) override;
  void Unclaim(Range range) override;
  void Lose(Range range) override { Unclaim(range); }

  // ---- Guests.
  class Turn {
    friend class MirrorClaims;
    Range range_;  // Whole granules.
    // As far as the change makes it, or leaves it, the same in source and target.
    Range equal_after_;
    bool changed_behind_ = false;
  };
  using TurnHandle = std::list<Turn>::iterator;

  // The turn of a change of `range`, before the source changes: waits until nothing of it is on its
  // way. Absent if `gives_up`, which is asked from time to time, says true, or once opened: then
  // the change goes behind.
  absl::optional<TurnHandle> BeginTurn(Range range, const std::function<bool()>& gives_up);
  // The source has changed, and the target too if `in_target`.
  void EndTurn(TurnHandle turn, bool in_target);
  // `range` of the source was changed without a turn.
  void ChangedBehind(Range range);

 private:
  explicit MirrorClaims(std::shared_ptr<bitmap::DirtyBitmap> dirty,
                        const std::shared_ptr<bitmap::DirtyBitmap>& like)
      : dirty_(std::move(dirty)), in_flight_(like->Empty()) {}

  bool IsInFlightLocked(Range range) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::optional<Range> FindFreeLocked(uint64_t from_bytes, uint64_t length_bytes_max) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Range EqualAfterLocked(Range granules, Range change) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Land(Range range);

  // Constant after construction.
  const std::shared_ptr<bitmap::DirtyBitmap> dirty_;
  // Of the job and of guests.
  const std::unique_ptr<bitmap::DirtyBitmap> in_flight_;

  std::atomic<uint64_t> copied_bytes_ = 0;
  std::atomic<uint64_t> claimed_bytes_ = 0;  // By the job.
  std::atomic<bool> open_ = false;

  // Orders claims and turns.
  mutable Mutex mutex_;
  CondVar changed_;
  std::list<Turn> turns_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tidemark::copy

#endif  // ENGINE_COPY_MIRROR_CLAIMS_H_
