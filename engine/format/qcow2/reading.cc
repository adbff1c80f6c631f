// Reading a disk, and telling what it holds, through the whole backing chain: what is asked of the
// backing disk is asked once, so that a chain costs its depth times the extents it is cut into.

#include <algorithm>
#include <cstring>
#include <vector>

#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/format/qcow2/compression.h"
#include "engine/format/qcow2/core.h"

namespace tidemark::qcow2 {
namespace {

// Lookups one Map may do in our own tables to find a longer extent.
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
  RETURN_IF_ERROR(core.data_file->Read(host_range.offset_bytes, absl::MakeSpan(compressed)));
  if (buffer.size() == core.geometry.cluster_bytes()) {
    return Decompress(core.compression_type, compressed, buffer);
  }
  std::vector<std::byte> cluster(core.geometry.cluster_bytes());
  RETURN_IF_ERROR(Decompress(core.compression_type, compressed, absl::MakeSpan(cluster)));
  std::memcpy(buffer.data(), cluster.data() + offset_in_cluster, buffer.size());
  return absl::OkStatus();
}

// What a mapping says without the backing disk; absent if that has to be asked.
absl::optional<storage::Extent> DescribeOwn(const Core& core, const Mapping& mapping) {
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
  if (core.backing != nullptr && mapping.range.offset_bytes < core.backing->size_bytes()) {
    return absl::nullopt;
  }
  extent.content = Content::kZero;
  extent.hole = true;
  // Zeroes behind the end of a shorter backing disk count as held by it.
  extent.depth = core.backing == nullptr ? 0 : 2;
  return extent;
}

// What the backing disk says of a stretch that begins within it. It is asked once, and its answer
// handed on as it is: were each level to ask until an answer differs, every level would double what
// all below it are asked.
absl::StatusOr<storage::Extent> MapBacking(const Core& core, Range range) {
  const Range within =
      Range::FromTo(range.offset_bytes, std::min(range.end_bytes(), core.backing->size_bytes()));
  ASSIGN_OR_RETURN(storage::Extent extent, core.backing->Map(within));
  if (extent.depth > 0) ++extent.depth;
  return extent;
}

}  // namespace

absl::Status ReadDisk(Core& core, uint64_t offset_bytes, storage::Bytes buffer) {
  while (!buffer.empty()) {
    ASSIGN_OR_RETURN(const Mapping mapping, core.tables.Lookup({offset_bytes, buffer.size()}));
    const storage::Bytes part = buffer.first(mapping.range.length_bytes);
    switch (mapping.kind) {
      case Mapping::Kind::kData:
        RETURN_IF_ERROR(core.data_file->Read(mapping.host_offset_bytes, part));
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
  ASSIGN_OR_RETURN(const Mapping mapping, core.tables.Lookup(range));
  const absl::optional<storage::Extent> first = DescribeOwn(core, mapping);
  if (!first.has_value()) return MapBacking(core, mapping.range);
  storage::Extent result = *first;
  // What is our own costs little to look at, and may be scattered in the file.
  for (int lookups = 1; lookups < kMapLookupsMax; ++lookups) {
    const Range rest = Range::FromTo(result.range.end_bytes(), range.end_bytes());
    if (rest.empty()) break;
    // Trouble further on is for the question that begins there.
    const absl::StatusOr<Mapping> next = core.tables.Lookup(rest);
    if (!next.ok()) break;
    const absl::optional<storage::Extent> extent = DescribeOwn(core, *next);
    if (!extent.has_value() || !extent->SameKindAs(result)) break;
    result.range.length_bytes += extent->range.length_bytes;
  }
  return result;
}

}  // namespace tidemark::qcow2
