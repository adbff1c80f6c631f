// Reading a disk, and telling what it holds, through the whole backing chain: what is asked of the
// backing disk is asked once, so that a chain costs its depth times the extents it is cut into.

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/types/optional.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/format/qcow2/compression.h"
#include "engine/format/qcow2/core.h"

namespace tidemark::qcow2 {
namespace {

// Lookups one Map may do in our own tables to find a longer extent.
constexpr int kMapLookupsMax = 64;

absl::Status ReadBacking(storage::Storage* backing, uint64_t offset_bytes, storage::Bytes buffer) {
  uint64_t size = backing == nullptr ? 0 : backing->size_bytes();
  while (offset_bytes < size) {
    const uint64_t readable = std::min<uint64_t>(buffer.size(), size - offset_bytes);
    const absl::Status status = backing->Read(offset_bytes, buffer.first(readable));
    if (!HasShrunk(*backing, status, &size)) {
      RETURN_IF_ERROR(status);
      buffer.remove_prefix(readable);
      break;
    }
  }
  std::fill(buffer.begin(), buffer.end(), std::byte{0});
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

// Zeroes behind the end of a shorter backing disk count as held by it.
storage::Extent ZeroesBeneath(const Core& core, Range range) {
  return {.range = range,
          .content = storage::Extent::Content::kZero,
          .depth = core.has_backing ? 2 : 0,
          .hole = true};
}

// The size of the backing disk, or what it was once if that suffices for `end_bytes`: each level of
// a chain would take locks to tell it, and hardly ever says anything new.
uint64_t BackingSizeFor(Core& core, uint64_t end_bytes) {
  uint64_t size = core.backing_seen_bytes.load(std::memory_order_relaxed);
  if (end_bytes > size) {
    size = core.backing->size_bytes();
    core.backing_seen_bytes.store(size, std::memory_order_relaxed);
  }
  return size;
}

// What a mapping says without the backing disk; absent if that has to be asked.
absl::optional<storage::Extent> DescribeOwn(Core& core, const Mapping& mapping) {
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
  const uint64_t begin = mapping.range.offset_bytes;
  if (core.backing != nullptr && begin < BackingSizeFor(core, begin + 1)) return absl::nullopt;
  return ZeroesBeneath(core, mapping.range);
}

// What the backing disk says of a stretch that begins within it. It is asked once, and its answer
// handed on as it is: were each level to ask until an answer differs, every level would double what
// all below it are asked. Absent if it has become too short.
absl::StatusOr<absl::optional<storage::Extent>> MapBacking(Core& core, Range range) {
  uint64_t size = BackingSizeFor(core, range.end_bytes());
  while (range.offset_bytes < size) {
    absl::StatusOr<storage::Extent> extent =
        core.backing->Map(Range::FromTo(range.offset_bytes, std::min(range.end_bytes(), size)));
    if (extent.ok()) [[likely]] {
      if (extent->depth > 0) ++extent->depth;
      return absl::make_optional(*extent);
    }
    if (!HasShrunk(*core.backing, extent.status(), &size)) return extent.status();
    core.backing_seen_bytes.store(size, std::memory_order_relaxed);
  }
  return absl::optional<storage::Extent>();
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

bool HasShrunk(const storage::Storage& beneath, const absl::Status& status, uint64_t* size_bytes) {
  if (!absl::IsOutOfRange(status)) return false;
  const uint64_t size_before_bytes = std::exchange(*size_bytes, beneath.size_bytes());
  return *size_bytes < size_before_bytes;
}

absl::StatusOr<storage::Extent> MapDisk(Core& core, Range range) {
  ASSIGN_OR_RETURN(const Mapping mapping, core.tables.Lookup(range));
  absl::optional<storage::Extent> first = DescribeOwn(core, mapping);
  if (!first.has_value()) {
    ASSIGN_OR_RETURN(first, MapBacking(core, mapping.range));
    if (first.has_value()) return *first;
    // There is nothing beneath any more.
    first = ZeroesBeneath(core, mapping.range);
  }
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
