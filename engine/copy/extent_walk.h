// What stretches of a disk hold, in whole copy units. Blocks as Storage::Map does.
#ifndef ENGINE_COPY_EXTENT_WALK_H_
#define ENGINE_COPY_EXTENT_WALK_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/base/range.h"
#include "engine/storage/storage.h"

namespace tidemark::copy {

struct Stretch {
  enum class Holds {
    kData,  // At least a part of every cluster must be read.
    kZero,  // Reads as zeroes all over.
    kSkip,  // Nothing of it is held by the top layer (only if asked for).
  };
  Range range;
  Holds holds = Holds::kData;

  friend bool operator==(const Stretch&, const Stretch&) = default;
};

// `range` begins at a cluster, and ends at one or at the end of the disk. The answer covers exactly
// `range`, ascending; neighbours differ. With `only_top_layer` clusters of which the top layer
// holds nothing are kSkip.
absl::StatusOr<std::vector<Stretch>> WalkExtents(storage::Storage* disk, Range range,
                                                 uint64_t cluster_bytes, bool only_top_layer);

// What the beginning of such a range holds, by as few questions as that takes: at least a cluster
// (or what is left of the disk). It need not be the longest stretch that holds the same.
absl::StatusOr<Stretch> FirstStretch(storage::Storage* disk, Range range, uint64_t cluster_bytes,
                                     bool only_top_layer);

}  // namespace tidemark::copy

#endif  // ENGINE_COPY_EXTENT_WALK_H_
