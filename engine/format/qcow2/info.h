// What an image says about itself: the figures of query-named-block-nodes and qemu-img info.
#ifndef ENGINE_FORMAT_QCOW2_INFO_H_
#define ENGINE_FORMAT_QCOW2_INFO_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "engine/format/qcow2/image.h"
#include "engine/format/qcow2/snapshots.h"

namespace tidemark::qcow2 {

struct BitmapInfo {
  std::string name;
  uint64_t granularity_bytes = 0;
  bool in_use = false;
  bool enabled = false;  // QEMU's flag "auto".
};

// The space the image takes is the file's to say (FileStorage::AllocatedBytes).
struct ImageInfo {
  uint64_t virtual_bytes = 0;
  uint64_t cluster_bytes = 0;
  // "0.10" for version 2, "1.1" for version 3.
  std::string compat;
  uint32_t refcount_bits = 0;
  CompressionType compression_type = CompressionType::kZlib;
  bool lazy_refcounts = false;
  // Refcounts may be wrong: it was not closed, with lazy refcounts.
  bool dirty = false;
  bool corrupt = false;
  // As recorded; absent if there is none.
  absl::optional<std::string> backing_file;
  absl::optional<std::string> backing_format;
  // As they are in the image: those in use by us too.
  std::vector<BitmapInfo> bitmaps;
  std::vector<Snapshot> snapshots;
};

// Reads the bitmap directory and the snapshot table; blocks, so workers only. Errors: those of
// ReadBitmapDirectory and ReadSnapshotTable.
absl::StatusOr<ImageInfo> GatherInfo(Image& image);

}  // namespace tidemark::qcow2

#endif  // ENGINE_FORMAT_QCOW2_INFO_H_
