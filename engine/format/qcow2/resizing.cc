// Growing and shrinking a disk. There are no other requests meanwhile.

#include <algorithm>

#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/format/qcow2/core.h"

namespace tidemark::qcow2 {
namespace {

// Whatever the grown space would show (old bytes in the last cluster, the backing disk) is zeroed
// before the header says that it is there.
absl::Status ZeroGrownSpace(Core& core, Range grown) {
  const uint64_t cluster_end = core.geometry.RoundUp(grown.offset_bytes);
  uint64_t shown_end = cluster_end;
  if (core.backing != nullptr) {
    shown_end = std::max(shown_end, core.backing->size_bytes());
  } else if (core.names_backing.load() && core.version >= 3) {
    shown_end = grown.end_bytes();  // Nobody knows how long it is.
  }
  const Range shown = grown.Intersect({0, shown_end});
  const auto guard = core.epochs.Enter();
  return shown.empty() ? absl::OkStatus() : ZeroDisk(core, shown, {});
}

absl::Status Grow(Core& core, Range grown) {
  RETURN_IF_ERROR(core.tables.GrowL1(core.geometry.L1EntriesFor(grown.end_bytes())));
  RETURN_IF_ERROR(ZeroGrownSpace(core, grown));
  RETURN_IF_ERROR(core.checkpointer->Run());
  RETURN_IF_ERROR(
      core.header.Patch([&](Header& header) { header.size_bytes = grown.end_bytes(); }));
  core.size_bytes.store(grown.end_bytes());
  return absl::OkStatus();
}

absl::Status Shrink(Core& core, uint64_t size_bytes) {
  const uint64_t old_end = core.geometry.RoundUp(core.size_bytes.load());
  const uint64_t new_end = core.geometry.RoundUp(size_bytes);
  {
    const auto guard = core.epochs.Enter();
    RETURN_IF_ERROR(UnmapClusters(core, Range::FromTo(new_end, old_end)));
  }
  RETURN_IF_ERROR(core.checkpointer->Run());
  const uint64_t coverage = core.geometry.l2_coverage_bytes();
  RETURN_IF_ERROR(core.tables.DropTables((new_end + coverage - 1) & ~(coverage - 1)));
  RETURN_IF_ERROR(core.checkpointer->Run());
  RETURN_IF_ERROR(core.header.Patch([&](Header& header) { header.size_bytes = size_bytes; }));
  core.size_bytes.store(size_bytes);
  return absl::OkStatus();
}

}  // namespace

absl::Status ResizeDisk(Core& core, uint64_t size_bytes) {
  const uint64_t old_size = core.size_bytes.load();
  if (size_bytes % 512 != 0) {
    return Error(Reason::kInvalidField,
                 absl::StrCat("the new size ", size_bytes, " is not a multiple of 512"));
  }
  if (size_bytes == old_size) return absl::OkStatus();
  if (size_bytes > uint64_t{INT64_MAX} ||
      core.geometry.L1EntriesFor(size_bytes) * 8 > kL1BytesMax) {
    return Error(Reason::kInvalidField,
                 absl::StrCat("the new size ", size_bytes, " is too large for clusters of ",
                              core.geometry.cluster_bytes(), " bytes"));
  }
  // Snapshots of version 2 do not say how large the disk was.
  if (core.header.Get().snapshot_count > 0 && (size_bytes < old_size || core.version < 3)) {
    return Error(Reason::kFeatureUnsupported,
                 absl::StrCat("a version ", core.version,
                              " image with internal snapshots cannot be resized from ", old_size,
                              " to ", size_bytes, " bytes"));
  }
  // From here on nothing waits for a checkpoint.
  RETURN_IF_ERROR(core.checkpointer->Run());
  if (size_bytes > old_size) return Grow(core, Range::FromTo(old_size, size_bytes));
  return Shrink(core, size_bytes);
}

}  // namespace tidemark::qcow2
