// Reading a disk, and telling what it holds, through the whole backing chain.

#include <algorithm>
#include <cstring>
#include <vector>

#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/format/qcow2/compression.h"
#include "engine/format/qcow2/core.h"

namespace tidemark::qcow2 {
namespace {

// Lookups one Map may do to find a longer extent.
constexpr int kMapLookupsMax = 64;

absl::Status ReadBacking(storage::Storage* backing, uint64_t offset_bytes, storage::Bytes buffer) {
  uint64_t readable = 0;
  if (backing != nullptr) {
    const uint64_t size = backing->size_bytes();
    if (offset_bytes < size) readable = std::min<uint64_t>(buffer.size(), size - offset_bytes);
  }
  if (readable > 0) RETURN_IF_ERROR(backing->Read(offset_bytes, buffer.first(readable)));
  std::fill(buffer.begin() + readable, buffer.end(), std::byte{0});
  return absl::OkStatus();
}

absl::Status ReadCompressed(Core& core, uint64_t entry, uint64_t offset_in_cluster,
                            storage::Bytes buffer) {
  const Range host_range = core.geometry.CompressedRange(entry);
  std::vector<std::byte> compressed(host_range.length_bytes);
  RETURN_IF_ERROR(core.file->Read(host_range.offset_bytes, absl::MakeSpan(compressed)));
  if (buffer.size() == core.geometry.cluster_bytes()) {
    return Decompress(core.compression_type, compressed, buffer);
  }
  std::vector<std::byte> cluster(core.geometry.cluster_bytes());
  RETURN_IF_ERROR(Decompress(core.compression_type, compressed, absl::MakeSpan(cluster)));
  std::memcpy(buffer.data(), cluster.data() + offset_in_cluster, buffer.size());
  return absl::OkStatus();
}

absl::StatusOr<storage::Extent> Describe(Core& core, const Mapping& mapping) {
  using Content = storage::Extent::Content;
  storage::Extent extent;
  extent.range = mapping.range;
  switch (mapping.kind) {
    case Mapping::Kind::kData:
      return extent;
    case Mapping::Kind::kCompressed:
      extent.compressed = true;
      return extent;
    case Mapping::Kind::kZero:
      extent.content = Content::kZero;
      extent.hole = mapping.host_offset_bytes == 0;
      return extent;
    case Mapping::Kind::kUnallocated:
      break;
  }
  const uint64_t backing_end = core.backing == nullptr ? 0 : core.backing->size_bytes();
  const uint64_t begin = mapping.range.offset_bytes;
  if (begin < backing_end) {
    ASSIGN_OR_RETURN(extent, core.backing->Map(Range::FromTo(
                                 begin, std::min(mapping.range.end_bytes(), backing_end))));
    if (extent.depth > 0) ++extent.depth;
    return extent;
  }
  extent.content = Content::kZero;
  extent.hole = true;
  // Zeroes behind the end of a shorter backing disk count as held by it.
  extent.depth = core.backing == nullptr ? 0 : 2;
  return extent;
}

}  // namespace

absl::Status ReadDisk(Core& core, uint64_t offset_bytes, storage::Bytes buffer) {
  while (!buffer.empty()) {
    ASSIGN_OR_RETURN(const Mapping mapping, core.tables.Lookup({offset_bytes, buffer.size()}));
    const storage::Bytes part = buffer.first(mapping.range.length_bytes);
    switch (mapping.kind) {
      case Mapping::Kind::kData:
        RETURN_IF_ERROR(core.file->Read(mapping.host_offset_bytes, part));
        break;
      case Mapping::Kind::kZero:
        std::fill(part.begin(), part.end(), std::byte{0});
        break;
      case Mapping::Kind::kUnallocated:
        RETURN_IF_ERROR(ReadBacking(core.backing.get(), offset_bytes, part));
        break;
      case Mapping::Kind::kCompressed:
        if (absl::Status status = ReadCompressed(core, mapping.compressed_entry,
                                                 core.geometry.OffsetInCluster(offset_bytes), part);
            !status.ok()) {
          return Annotate(status, absl::StrCat("compressed cluster of disk offset ",
                                               core.geometry.RoundDown(offset_bytes)));
        }
        break;
    }
    offset_bytes += part.size();
    buffer.remove_prefix(part.size());
  }
  return absl::OkStatus();
}

absl::StatusOr<storage::Extent> MapDisk(Core& core, Range range) {
  storage::Extent result;
  for (int lookups = 0; lookups < kMapLookupsMax; ++lookups) {
    const uint64_t begin = lookups == 0 ? range.offset_bytes : result.range.end_bytes();
    const Range rest = Range::FromTo(begin, range.end_bytes());
    if (rest.empty()) break;
    // Trouble further on is for the question that begins there.
    const absl::StatusOr<Mapping> mapping = core.tables.Lookup(rest);
    if (!mapping.ok() && lookups > 0) break;
    RETURN_IF_ERROR(mapping.status());
    const absl::StatusOr<storage::Extent> extent = Describe(core, *mapping);
    if (!extent.ok() && lookups > 0) break;
    RETURN_IF_ERROR(extent.status());
    if (lookups == 0) {
      result = *extent;
    } else if (extent->SameKindAs(result)) {
      result.range.length_bytes += extent->range.length_bytes;
    } else {
      break;
    }
  }
  return result;
}

}  // namespace tidemark::qcow2
