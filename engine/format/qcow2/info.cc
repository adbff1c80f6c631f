#include "engine/format/qcow2/info.h"

#include "engine/base/status_macros.h"
#include "engine/format/qcow2/bitmap_directory.h"

namespace tidemark::qcow2 {

absl::StatusOr<ImageInfo> GatherInfo(Image& image) {
  const Header header = image.header();
  const auto read = [&image](uint64_t host_offset_bytes, storage::Bytes buffer) {
    return image.ReadMetadata(host_offset_bytes, buffer);
  };
  ImageInfo info;
  info.virtual_bytes = header.size_bytes;
  info.cluster_bytes = header.geometry.cluster_bytes();
  info.compat = header.version == 2 ? "0.10" : "1.1";
  info.refcount_bits = header.geometry.refcount_bits();
  info.compression_type = header.compression_type;
  info.lazy_refcounts = (header.compatible_features & compatible_feature::kLazyRefcounts) != 0;
  info.dirty = (header.incompatible_features & incompatible_feature::kDirty) != 0;
  info.corrupt = (header.incompatible_features & incompatible_feature::kCorrupt) != 0;
  if (!header.backing_file.empty()) info.backing_file = header.backing_file;
  info.backing_format = header.backing_format;
  ASSIGN_OR_RETURN(const std::vector<BitmapDirectoryEntry> entries,
                   ReadBitmapDirectory(header, read));
  for (const BitmapDirectoryEntry& entry : entries) {
    info.bitmaps.push_back(
        {entry.name, uint64_t{1} << entry.granularity_bits, entry.in_use, entry.enabled});
  }
  ASSIGN_OR_RETURN(SnapshotTable snapshots, ReadSnapshotTable(header, read));
  info.snapshots = std::move(snapshots.snapshots);
  return info;
}

}  // namespace tidemark::qcow2
