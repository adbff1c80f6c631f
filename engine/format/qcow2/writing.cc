// Writing to a disk: in place where a cluster is ours alone, into new clusters elsewhere.

#include <algorithm>
#include <cstring>
#include <vector>

#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/format/qcow2/compression.h"
#include "engine/format/qcow2/core.h"

namespace tidemark::qcow2 {
namespace {

// New clusters up to this much are put together in memory and written by one request.
constexpr uint64_t kAssembleBytesMax = uint64_t{256} << 10;

// Clusters of the file that are to become, or already are, the place of clusters of the disk.
struct NewPlace {
  Range disk_range;  // Whole clusters.
  Range host_range;
  bool reads_as_zeroes = false;  // The file holds zeroes there.
  bool allocated = false;        // By us: to be released if nothing comes of it.
};

absl::StatusOr<NewPlace> FindPlace(Core& core, const Mapping& mapping) {
  NewPlace place;
  const uint64_t begin = mapping.range.offset_bytes;
  const uint64_t clusters = core.geometry.ClustersFor(mapping.range.length_bytes);
  if (mapping.kind == Mapping::Kind::kZero && mapping.owned && mapping.host_offset_bytes != 0) {
    place.host_range = {mapping.host_offset_bytes, clusters << core.geometry.cluster_bits};
  } else {
    ASSIGN_OR_RETURN(const Refcounts::Allocation allocation, core.refcounts->Allocate(clusters));
    place.host_range = allocation.host_range;
    place.reads_as_zeroes = allocation.never_written;
    place.allocated = true;
  }
  place.disk_range = {begin, place.host_range.length_bytes};
  return place;
}

bool ReadsAsZeroes(const Core& core, const Mapping& mapping) {
  if (mapping.kind == Mapping::Kind::kZero) return true;
  return mapping.kind == Mapping::Kind::kUnallocated &&
         (core.backing == nullptr || mapping.range.offset_bytes >= core.backing->size_bytes());
}

// What the disk holds in `range`; zeroes past its end.
absl::Status ReadOld(Core& core, Range range, storage::Bytes buffer) {
  const Range within = range.Intersect({0, core.size_bytes.load()});
  std::fill(buffer.begin() + within.length_bytes, buffer.end(), std::byte{0});
  return ReadDisk(core, range.offset_bytes, buffer.first(within.length_bytes));
}

// Fills new clusters: `data` for the disk from `offset_bytes` on, the old content before and after.
absl::Status FillPlace(Core& core, const NewPlace& place, bool old_is_zero, uint64_t offset_bytes,
                       storage::ConstBytes data) {
  const Range disk = place.disk_range;
  const uint64_t host = place.host_range.offset_bytes;
  const Range before = Range::FromTo(disk.offset_bytes, offset_bytes);
  const Range after = Range::FromTo(offset_bytes + data.size(), disk.end_bytes());
  const uint64_t data_host = host + before.length_bytes;
  if ((before.empty() && after.empty()) || (old_is_zero && place.reads_as_zeroes)) {
    return core.data_file->Write(data_host, data, {});
  }
  const auto read_old = [&](Range range, storage::Bytes buffer) {
    if (!old_is_zero) return ReadOld(core, range, buffer);
    std::fill(buffer.begin(), buffer.end(), std::byte{0});
    return absl::OkStatus();
  };
  if (disk.length_bytes <= kAssembleBytesMax) {
    std::vector<std::byte> whole(disk.length_bytes);
    const storage::Bytes bytes = absl::MakeSpan(whole);
    RETURN_IF_ERROR(read_old(before, bytes.first(before.length_bytes)));
    std::memcpy(whole.data() + before.length_bytes, data.data(), data.size());
    RETURN_IF_ERROR(read_old(after, bytes.last(after.length_bytes)));
    return core.data_file->Write(host, whole, {});
  }
  std::vector<std::byte> edge(std::max(before.length_bytes, after.length_bytes));
  const storage::Bytes head = absl::MakeSpan(edge).first(before.length_bytes);
  RETURN_IF_ERROR(read_old(before, head));
  if (!head.empty()) RETURN_IF_ERROR(core.data_file->Write(host, head, {}));
  RETURN_IF_ERROR(core.data_file->Write(data_host, data, {}));
  const storage::Bytes tail = absl::MakeSpan(edge).first(after.length_bytes);
  RETURN_IF_ERROR(read_old(after, tail));
  if (tail.empty()) return absl::OkStatus();
  return core.data_file->Write(data_host + data.size(), tail, {});
}

absl::Status Link(Core& core, const NewPlace& place) {
  const uint64_t clusters = place.host_range.length_bytes >> core.geometry.cluster_bits;
  std::vector<L2Entry> entries(clusters);
  for (uint64_t i = 0; i < clusters; ++i) {
    entries[i] = core.tables.entries().Data(place.host_range.offset_bytes +
                                            (i << core.geometry.cluster_bits));
  }
  return core.tables.Set(place.disk_range.offset_bytes, entries);
}

// Writes as much of `data` as becomes one run of new clusters; `mapping` begins at the cluster of
// `offset_bytes`, and is claimed. Returns how much that was.
absl::StatusOr<uint64_t> WriteNew(Core& core, const Mapping& mapping, uint64_t offset_bytes,
                                  storage::ConstBytes data) {
  ASSIGN_OR_RETURN(const NewPlace place, FindPlace(core, mapping));
  const uint64_t end = std::min(offset_bytes + data.size(), place.disk_range.end_bytes());
  absl::Status status = FillPlace(core, place, ReadsAsZeroes(core, mapping), offset_bytes,
                                  data.first(end - offset_bytes));
  if (status.ok()) status = Link(core, place);
  if (status.ok()) return end - offset_bytes;
  if (place.allocated) core.refcounts->Release(place.host_range).IgnoreError();
  return status;
}

// Writes to clusters of which some have no place of their own, within the reach of one Set.
absl::Status WriteClaimed(Core& core, uint64_t offset_bytes, storage::ConstBytes data) {
  const Geometry& geometry = core.geometry;
  const uint64_t claimed_end = geometry.RoundUp(offset_bytes + data.size());
  const auto claim =
      core.claims.Acquire(Range::FromTo(geometry.RoundDown(offset_bytes), claimed_end));
  while (!data.empty()) {
    const uint64_t begin = geometry.RoundDown(offset_bytes);
    ASSIGN_OR_RETURN(const Mapping mapping, core.tables.Lookup(Range::FromTo(begin, claimed_end)));
    uint64_t written = 0;
    if (mapping.kind == Mapping::Kind::kData && mapping.owned) {
      written = std::min<uint64_t>(data.size(), mapping.range.end_bytes() - offset_bytes);
      RETURN_IF_ERROR(core.data_file->Write(mapping.host_offset_bytes + (offset_bytes - begin),
                                            data.first(written), {}));
    } else {
      ASSIGN_OR_RETURN(written, WriteNew(core, mapping, offset_bytes, data));
    }
    offset_bytes += written;
    data.remove_prefix(written);
  }
  return absl::OkStatus();
}

absl::Status WriteCompressedCluster(Core& core, uint64_t offset_bytes,
                                    storage::ConstBytes cluster) {
  const absl::optional<std::vector<std::byte>> compressed =
      Compress(core.compression_type, cluster);
  const auto claim = core.claims.Acquire({offset_bytes, core.geometry.cluster_bytes()});
  ASSIGN_OR_RETURN(const Mapping mapping,
                   core.tables.Lookup({offset_bytes, core.geometry.cluster_bytes()}));
  if (mapping.kind == Mapping::Kind::kCompressed || mapping.host_offset_bytes != 0) {
    return Error(Reason::kIoError,
                 absl::StrCat("cannot write compressed data at disk offset ", offset_bytes,
                              ": the cluster is already allocated"));
  }
  if (!compressed.has_value()) return WriteNew(core, mapping, offset_bytes, cluster).status();
  ASSIGN_OR_RETURN(const Range host_range, core.refcounts->AllocateBytes(compressed->size()));
  absl::Status status;
  if (host_range.offset_bytes > core.geometry.compressed_offset_mask()) {
    status = Error(Reason::kNoSpace, "compressed data is out of reach of an L2 entry");
  }
  if (status.ok()) status = core.data_file->Write(host_range.offset_bytes, *compressed, {});
  if (status.ok()) {
    const L2Entry entry = core.tables.entries().Compressed(host_range);
    status = core.tables.Set(offset_bytes, {&entry, 1});
  }
  if (!status.ok()) core.refcounts->Release(host_range).IgnoreError();
  return status;
}

}  // namespace

absl::Status WriteDisk(Core& core, uint64_t offset_bytes, storage::ConstBytes data) {
  while (!data.empty()) {
    ASSIGN_OR_RETURN(const Mapping mapping, core.tables.Lookup({offset_bytes, data.size()}));
    uint64_t length = mapping.range.length_bytes;
    if (mapping.kind == Mapping::Kind::kData && mapping.owned) {
      RETURN_IF_ERROR(core.data_file->Write(mapping.host_offset_bytes, data.first(length), {}));
    } else {
      const uint64_t end =
          std::min({offset_bytes + data.size(), core.tables.SetEndBytes(offset_bytes),
                    core.geometry.RoundDown(offset_bytes) + kStepBytesMax});
      length = end - offset_bytes;
      RETURN_IF_ERROR(WriteClaimed(core, offset_bytes, data.first(length)));
    }
    offset_bytes += length;
    data.remove_prefix(length);
  }
  return absl::OkStatus();
}

absl::Status WriteUnallocated(Core& core, uint64_t offset_bytes, storage::ConstBytes data) {
  const uint64_t end = offset_bytes + data.size();
  const auto data_at = [&](uint64_t at) { return data.subspan(at - offset_bytes); };
  for (uint64_t at = offset_bytes; at < end;) {
    ASSIGN_OR_RETURN(const Mapping seen, core.tables.Lookup(Range::FromTo(at, end)));
    if (seen.kind != Mapping::Kind::kUnallocated) {
      at = seen.range.end_bytes();
      continue;
    }
    const uint64_t step_end =
        std::min({seen.range.end_bytes(), core.tables.SetEndBytes(at), at + kStepBytesMax});
    const Range claimed = Range::FromTo(at, core.geometry.RoundUp(step_end));
    const auto claim = core.claims.Acquire(claimed);
    // Nobody allocates in there from now on, but somebody may have done so before.
    while (at < step_end) {
      ASSIGN_OR_RETURN(const Mapping mapping,
                       core.tables.Lookup(Range::FromTo(at, claimed.end_bytes())));
      if (mapping.kind == Mapping::Kind::kUnallocated) {
        const uint64_t length = std::min(step_end, mapping.range.end_bytes()) - at;
        ASSIGN_OR_RETURN(const uint64_t written,
                         WriteNew(core, mapping, at, data_at(at).first(length)));
        at += written;
      } else {
        at = mapping.range.end_bytes();
      }
    }
  }
  return absl::OkStatus();
}

absl::Status WriteCompressed(Core& core, uint64_t offset_bytes, storage::ConstBytes data) {
  const uint64_t cluster_bytes = core.geometry.cluster_bytes();
  while (data.size() >= cluster_bytes) {
    RETURN_IF_ERROR(WriteCompressedCluster(core, offset_bytes, data.first(cluster_bytes)));
    offset_bytes += cluster_bytes;
    data.remove_prefix(cluster_bytes);
  }
  if (data.empty()) return absl::OkStatus();
  std::vector<std::byte> last(data.begin(), data.end());
  last.resize(cluster_bytes);
  return WriteCompressedCluster(core, offset_bytes, last);
}

}  // namespace tidemark::qcow2
