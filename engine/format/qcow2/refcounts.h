// Who owns the clusters of the file: counts references, finds free clusters. Any thread; callers
// take turns, also while one of them reads or writes refcount blocks.
#ifndef ENGINE_FORMAT_QCOW2_REFCOUNTS_H_
#define ENGINE_FORMAT_QCOW2_REFCOUNTS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/mutex.h"
#include "engine/base/range.h"
#include "engine/format/qcow2/refcount_blocks.h"

namespace tidemark::qcow2 {

class Refcounts {
 public:
  struct Allocation {
    Range host_range;
    // The file has never held anything there: it reads as zeroes.
    bool never_written = false;
  };

  Refcounts(storage::Storage* file, HeaderStore* header, MetadataMap* metadata, Health* health,
            Counters* counters);

  absl::Status Load();

  // Between one and `clusters_max` adjacent clusters, the lowest free ones, with refcount one.
  absl::StatusOr<Allocation> Allocate(uint64_t clusters_max);
  // Exactly `clusters` adjacent clusters.
  absl::StatusOr<Allocation> AllocateAdjacent(uint64_t clusters);
  // Room for `length_bytes` (less than a cluster) of compressed data, packed behind what was
  // allocated last: clusters are shared, each piece holds one reference to all that it touches.
  absl::StatusOr<Range> AllocateBytes(uint64_t length_bytes);

  // Takes one reference away from every cluster that `host_range` touches.
  absl::Status Release(Range host_range);
  absl::StatusOr<uint64_t> Get(uint64_t host_offset_bytes);

  // Writes what differs from the file; durable after the file's next flush.
  absl::Status WriteBack();

  // Where the last used cluster ends.
  absl::StatusOr<uint64_t> UsedEndBytes();

 private:
  absl::StatusOr<uint64_t> FindFree(uint64_t cluster) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<uint64_t> CountFree(uint64_t cluster, uint64_t clusters_max)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<uint64_t> FindAdjacent(uint64_t clusters) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<uint64_t> PlaceAtEnd(uint64_t clusters) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status GrowTable(uint64_t blocks) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckTable() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CreateBlock(uint64_t index, uint64_t cluster) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Gives the free clusters refcount one.
  absl::Status Take(uint64_t first_cluster, uint64_t clusters)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<Allocation> TakeFound(uint64_t first_cluster, uint64_t clusters)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<Allocation> AllocateLocked(uint64_t clusters_max)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<uint64_t> GetLocked(uint64_t cluster) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status ReleaseLocked(Range host_range) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status ShareTail() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<uint64_t> ScanUsedEnd(uint64_t cluster_limit)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Constant after construction.
  storage::Storage& file_;
  MetadataMap& metadata_;
  Health& health_;
  Counters& counters_;
  const Geometry geometry_;

  // Held through the I/O of refcount blocks: whoever waits for it needs them too.
  Mutex mutex_;
  RefcountBlocks blocks_ ABSL_GUARDED_BY(mutex_);
  // No cluster below is free.
  uint64_t first_maybe_free_ ABSL_GUARDED_BY(mutex_) = 0;
  // No cluster from here on is used.
  uint64_t used_end_ ABSL_GUARDED_BY(mutex_) = 0;
  // No cluster from here on was ever written.
  uint64_t written_end_ ABSL_GUARDED_BY(mutex_) = 0;
  // Where the next compressed data may go: within a cluster that has room, or 0.
  uint64_t tail_offset_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace tidemark::qcow2

#endif  // ENGINE_FORMAT_QCOW2_REFCOUNTS_H_
