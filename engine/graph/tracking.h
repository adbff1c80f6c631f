// Marks the bitmaps of a node after everything that may have changed its data: writes, zeroes and
// discards, also failed ones, before they return. Placed writes are marked when they are finished,
// or given up: some of their data may be in place by then.
#ifndef ENGINE_GRAPH_TRACKING_H_
#define ENGINE_GRAPH_TRACKING_H_

#include <atomic>
#include <memory>
#include <utility>
#include <vector>

#include "engine/base/mutex.h"
#include "engine/bitmap/dirty_bitmap.h"
#include "engine/storage/storage.h"

namespace tidemark::graph {

// The bitmaps of one node as its data plane sees them. Any thread.
class TrackedBitmaps {
 public:
  using List = std::vector<std::shared_ptr<bitmap::DirtyBitmap>>;

  // From now on `recording` are marked, and `all` follow the disk's size.
  void Set(List recording, List all);

  // Marks `range` in all that record. A file grows by being written past its end: the bitmaps first
  // take on the size of `disk`.
  void Mark(Range range, const storage::Storage& disk) {
    if (any_.load(std::memory_order_acquire)) MarkEach(range, disk.size_bytes());
  }
  // Whether the bitmaps can follow, to a new size or as far as a change of `range` makes `disk`
  // grow.
  absl::Status CheckResize(uint64_t size_bytes);
  absl::Status CheckGrowth(Range range, const storage::Storage& disk) {
    const uint64_t size_bytes = disk.size_bytes();
    // What overflows is for the storage to refuse.
    if (range.offset_bytes + range.length_bytes <= size_bytes) [[likely]] {
      return absl::OkStatus();
    }
    return CheckResize(range.offset_bytes + range.length_bytes);
  }
  void Resize(uint64_t size_bytes);
  // Takes on the size that `disk` has by itself. One that cannot stays as it is: its owner will
  // see.
  void Follow(const storage::Storage& disk);

 private:
  void MarkEach(Range range, uint64_t size_bytes);
  void ResizeEach(uint64_t size_bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  std::atomic<bool> any_{false};

  // Also keeps marks and changes of size apart.
  Mutex mutex_;
  List recording_ ABSL_GUARDED_BY(mutex_);
  List all_ ABSL_GUARDED_BY(mutex_);
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
