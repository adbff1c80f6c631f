// Marks the bitmaps of a node after everything that may have changed its data: writes, zeroes and
// discards, also failed ones, before they return; but not for writes that are said to change
// nothing. Placed writes are marked when they are finished, or given up: some of their data may be
// in place by then.
#ifndef ENGINE_GRAPH_TRACKING_H_
#define ENGINE_GRAPH_TRACKING_H_

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "engine/base/mutex.h"
#include "engine/bitmap/dirty_bitmap.h"
#include "engine/storage/storage.h"

namespace tidemark::graph {

// The bitmaps of one node as its data plane sees them. Any thread.
//
// They never become smaller but by Resize. A file grows by being written past its end, by several
// writers at once, and what one of them knows of its size may be old when another has marked what
// lies beyond.
class TrackedBitmaps {
 public:
  using List = std::vector<std::shared_ptr<bitmap::DirtyBitmap>>;

  // What else has a word on the size of the disk: the image that is to hold bitmaps. Any thread,
  // with a lock held: must not wait.
  using SizeCheck = std::function<absl::Status(uint64_t size_bytes)>;

  // From now on `recording` are marked, and `all` follow the disk's size, which `check`, if there
  // is one, may refuse.
  void Set(List recording, List all, SizeCheck check = nullptr);

  // Marks `range` in all that record. If it reaches past them, they first take on the size of
  // `disk`, as far as that is larger.
  void Mark(Range range, const storage::Storage& disk) {
    if (any_.load(std::memory_order_acquire)) MarkEach(range, disk);
  }
  // Whether the bitmaps can follow, to a new size or as far as `disk`, or a change of `range`
  // beyond it, goes.
  absl::Status CheckResize(uint64_t size_bytes);
  absl::Status CheckGrowth(Range range, const storage::Storage& disk) {
    // What overflows is for the storage to refuse.
    if (!any_.load(std::memory_order_acquire) ||
        range.offset_bytes + range.length_bytes <= size_bytes_.load(std::memory_order_acquire))
        [[likely]] {
      return absl::OkStatus();
    }
    return CheckResize(std::max(range.offset_bytes + range.length_bytes, disk.size_bytes()));
  }
  // ORs `source` into `bits`, which is one of these: no change of size comes between, and what the
  // sizes have grown apart by since is clean.
  void MergeInto(bitmap::DirtyBitmap* bits, const bitmap::DirtyBitmap& source);
  // The disk's size was changed, and nothing is in flight that could grow it.
  void Resize(uint64_t size_bytes);
  // Takes on the size that `disk` has by itself. One that cannot stays as it is: its owner will
  // see.
  void Follow(const storage::Storage& disk);

 private:
  void MarkEach(Range range, const storage::Storage& disk);
  void ResizeEach(uint64_t size_bytes, bool may_shrink) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  std::atomic<bool> any_{false};
  // Of the smallest one. Changed with the lock held.
  std::atomic<uint64_t> size_bytes_{0};

  // Also keeps marks and changes of size apart.
  Mutex mutex_;
  List recording_ ABSL_GUARDED_BY(mutex_);
  List all_ ABSL_GUARDED_BY(mutex_);
  SizeCheck check_ ABSL_GUARDED_BY(mutex_);
  // Counts Resize: a size that was read before one means nothing after it.
  uint64_t resizes_ ABSL_GUARDED_BY(mutex_) = 0;
};

// Thread rule: as every storage. What would make the disk grow further than its bitmaps can is
// refused.
class TrackingStorage final : public storage::ForwardingStorage {
 public:
  TrackingStorage(std::shared_ptr<storage::Storage> next, std::shared_ptr<TrackedBitmaps> bitmaps)
      : ForwardingStorage(std::move(next)), bitmaps_(std::move(bitmaps)) {}

  absl::Status Write(uint64_t offset_bytes, storage::ConstBytes data,
                     storage::WriteOptions options) override;
  absl::Status WriteZeroes(Range range, storage::ZeroOptions options) override;
  absl::Status Discard(Range range) override;
  // The bitmaps follow: grown space is clean, what is cut off is forgotten. Refused if that would
  // make one of them too large.
  absl::Status Resize(uint64_t size_bytes) override;
  absl::StatusOr<std::unique_ptr<storage::Placement>> PlaceRead(Range range) override;
  absl::StatusOr<std::unique_ptr<storage::Placement>> PlaceWrite(Range range) override;

 private:
  const std::shared_ptr<TrackedBitmaps> bitmaps_;
};

}  // namespace tidemark::graph

#endif  // ENGINE_GRAPH_TRACKING_H_
