// Which clusters of the file hold metadata of the image: an entry that points a disk's data at one
// of them is broken, and so is a refcount that calls it free. Any thread.
#ifndef ENGINE_FORMAT_QCOW2_METADATA_MAP_H_
#define ENGINE_FORMAT_QCOW2_METADATA_MAP_H_

#include <cstdint>

#include "absl/container/flat_hash_set.h"
#include "engine/base/mutex.h"
#include "engine/base/range.h"
#include "engine/format/qcow2/layout.h"

namespace tidemark::qcow2 {

class MetadataMap {
 public:
  explicit MetadataMap(const Geometry& geometry) : geometry_(geometry) {}

  // False, and nothing is added, if some cluster of `host_range` already holds metadata.
  bool Add(Range host_range) {
    MutexLock lock(&mutex_);
    if (OverlapsLocked(host_range)) return false;
    ForEach(host_range, [&](uint64_t cluster) { clusters_.insert(cluster); });
    return true;
  }
  void Remove(Range host_range) {
    MutexLock lock(&mutex_);
    ForEach(host_range, [&](uint64_t cluster) { clusters_.erase(cluster); });
  }
  bool Overlaps(Range host_range) const {
    MutexLock lock(&mutex_);
    return OverlapsLocked(host_range);
  }

 private:
  template <typename Visitor>
  void ForEach(Range host_range, Visitor visit) const {
    if (host_range.empty()) return;
    const uint64_t last = (host_range.end_bytes() - 1) >> geometry_.cluster_bits;
    for (uint64_t i = host_range.offset_bytes >> geometry_.cluster_bits; i <= last; ++i) visit(i);
  }
  bool OverlapsLocked(Range host_range) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    bool overlaps = false;
    ForEach(host_range, [&](uint64_t cluster) { overlaps |= clusters_.contains(cluster); });
    return overlaps;
  }

  const Geometry geometry_;

  mutable Mutex mutex_;
  absl::flat_hash_set<uint64_t> clusters_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tidemark::qcow2

#endif  // ENGINE_FORMAT_QCOW2_METADATA_MAP_H_
