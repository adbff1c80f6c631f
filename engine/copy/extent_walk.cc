#include "engine/copy/extent_walk.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"

namespace tidemark::copy {
namespace {

using Holds = Stretch::Holds;

Holds Judge(const storage::Extent& extent, bool only_top_layer) {
  if (only_top_layer && extent.depth != 1) return Holds::kSkip;
  return extent.content == storage::Extent::Content::kZero ? Holds::kZero : Holds::kData;
}

void Append(std::vector<Stretch>* stretches, Range range, Holds holds) {
  if (range.empty()) return;
  if (!stretches->empty() && stretches->back().holds == holds) {
    stretches->back().range.length_bytes += range.length_bytes;
  } else {
    stretches->push_back({range, holds});
  }
}

// What a cluster holds that has parts of both kinds. Skipped parts of a cluster that is not skipped
// as a whole may hold anything.
Holds Join(Holds a, Holds b) { return a == b ? a : Holds::kData; }

// What the beginning of `range` holds; an error if the disk tells of something else.
absl::StatusOr<storage::Extent> FirstExtent(storage::Storage* disk, Range range) {
  ASSIGN_OR_RETURN(const storage::Extent extent, disk->Map(range));
  if (extent.range.offset_bytes != range.offset_bytes || extent.range.empty()) {
    return Error(Reason::kIoError, absl::StrCat("asked what is at ", range.offset_bytes,
                                                ", the disk told of ", extent.range.ToString()));
  }
  return extent;
}

}  // namespace

absl::StatusOr<std::vector<Stretch>> WalkExtents(storage::Storage* disk, Range range,
                                                 uint64_t cluster_bytes, bool only_top_layer) {
  std::vector<Stretch> stretches;
  const uint64_t mask = cluster_bytes - 1;
  uint64_t at = range.offset_bytes;
  // The cluster that is only known in part: it begins here, and so far holds `partial`.
  uint64_t partial_begin = at;
  Holds partial = Holds::kData;
  while (at < range.end_bytes()) {
    ASSIGN_OR_RETURN(const storage::Extent extent,
                     FirstExtent(disk, Range::FromTo(at, range.end_bytes())));
    const uint64_t end = std::min(extent.range.end_bytes(), range.end_bytes());
    const Holds holds = Judge(extent, only_top_layer);
    if (at == partial_begin) {
      partial = holds;
    } else {
      partial = Join(partial, holds);
      const uint64_t cluster_end = std::min(partial_begin + cluster_bytes, range.end_bytes());
      if (end < cluster_end) {
        at = end;
        continue;
      }
      Append(&stretches, Range::FromTo(partial_begin, cluster_end), partial);
      partial_begin = cluster_end;
      partial = holds;
    }
    const uint64_t whole_end = end == range.end_bytes() ? end : end & ~mask;
    if (whole_end > partial_begin) {
      Append(&stretches, Range::FromTo(partial_begin, whole_end), holds);
      partial_begin = whole_end;
    }
    at = end;
  }
  return stretches;
}

absl::StatusOr<Stretch> FirstStretch(storage::Storage* disk, Range range, uint64_t cluster_bytes,
                                     bool only_top_layer) {
  ASSIGN_OR_RETURN(const storage::Extent extent, FirstExtent(disk, range));
  const uint64_t end = std::min(extent.range.end_bytes(), range.end_bytes());
  const uint64_t whole_end = end == range.end_bytes() ? end : end & ~(cluster_bytes - 1);
  if (whole_end > range.offset_bytes) {
    return Stretch{Range::FromTo(range.offset_bytes, whole_end), Judge(extent, only_top_layer)};
  }
  const Range cluster{range.offset_bytes, std::min(cluster_bytes, range.length_bytes)};
  ASSIGN_OR_RETURN(const std::vector<Stretch> stretches,
                   WalkExtents(disk, cluster, cluster_bytes, only_top_layer));
  return stretches.front();
}

}  // namespace tidemark::copy
