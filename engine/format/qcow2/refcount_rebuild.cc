#include "engine/format/qcow2/refcount_rebuild.h"

#include <algorithm>
#include <limits>
#include <map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/format/qcow2/bitmap_directory.h"
#include "engine/format/qcow2/limits.h"
#include "engine/format/qcow2/snapshots.h"

namespace tidemark::qcow2 {
namespace {

// Old refcount structures are simply not counted, so they end up free: the new ones never share a
// cluster with anything, and the image goes from the old to the new by one sector of the header.
class Rebuilder {
 public:
  Rebuilder(storage::Storage& file, const Header& header)
      : file_(file),
        header_(header),
        geometry_(header.geometry),
        file_clusters_(geometry_.ClustersFor(file.size_bytes())) {}

  absl::Status Run() {
    if (file_clusters_ > kRebuildClustersMax) {
      return Error(Reason::kFeatureUnsupported,
                   absl::StrCat("the refcounts of a file of ", file_clusters_,
                                " clusters cannot be rebuilt here: use qemu-img check -r all"));
    }
    counts_.resize(file_clusters_);
    RETURN_IF_ERROR(CountEverything());
    return WriteCounts();
  }

 private:
  absl::Status Impossible(absl::string_view what, uint64_t offset_bytes) const {
    return Error(Reason::kImageCorrupt,
                 absl::StrCat("cannot rebuild refcounts: ", what, " at file offset ", offset_bytes,
                              " is impossible"));
  }

  absl::Status Count(Range host_range, uint64_t weight, absl::string_view what) {
    if (host_range.empty()) return absl::OkStatus();
    if (!host_range.FitsIn(kHostOffsetEnd)) return Impossible(what, host_range.offset_bytes);
    const uint64_t last = (host_range.end_bytes() - 1) >> geometry_.cluster_bits;
    if (last >= file_clusters_) return Impossible(what, host_range.offset_bytes);
    for (uint64_t i = host_range.offset_bytes >> geometry_.cluster_bits; i <= last; ++i) {
      const uint64_t count = counts_[i] + weight;
      if (count >
          std::min<uint64_t>(geometry_.refcount_max(), std::numeric_limits<uint32_t>::max())) {
        return Impossible(absl::StrCat(what, ", used ", count, " times,"), host_range.offset_bytes);
      }
      counts_[i] = static_cast<uint32_t>(count);
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<uint64_t>> ReadEntries(uint64_t offset_bytes, uint64_t entries) {
    std::vector<uint64_t> table(entries);
    RETURN_IF_ERROR(
        file_.Read(offset_bytes, {reinterpret_cast<std::byte*>(table.data()), table.size() * 8}));
    std::transform(table.begin(), table.end(), table.begin(), BigEndian<uint64_t>);
    return table;
  }

  absl::Status CountL1(uint64_t offset_bytes, uint64_t entries) {
    const Range range = {offset_bytes, entries * 8};
    l1_bytes_ += range.length_bytes;
    if (range.length_bytes > kL1BytesMax || l1_bytes_ > kRebuildL1BytesMax) {
      return Impossible("an L1 table too large", offset_bytes);
    }
    RETURN_IF_ERROR(Count(range, 1, "an L1 table"));
    ASSIGN_OR_RETURN(const std::vector<uint64_t> table, ReadEntries(offset_bytes, entries));
    for (const uint64_t entry : table) {
      const uint64_t l2_offset = entry & kEntryOffsetMask;
      if (geometry_.OffsetInCluster(l2_offset) != 0) return Impossible("an L2 table", l2_offset);
      if (l2_offset != 0) ++l2_weights_[l2_offset];
    }
    return absl::OkStatus();
  }

  absl::Status CountL2(uint64_t offset_bytes, uint64_t weight) {
    RETURN_IF_ERROR(Count({offset_bytes, geometry_.cluster_bytes()}, weight, "an L2 table"));
    ASSIGN_OR_RETURN(const std::vector<uint64_t> table,
                     ReadEntries(offset_bytes, geometry_.l2_entries()));
    for (const uint64_t entry : table) {
      Range host_range = {entry & kEntryOffsetMask, geometry_.cluster_bytes()};
      if ((entry & kEntryCompressed) != 0) host_range = geometry_.CompressedRange(entry);
      if (host_range.offset_bytes == 0) continue;
      if ((entry & kEntryCompressed) == 0 &&
          geometry_.OffsetInCluster(host_range.offset_bytes) != 0) {
        return Impossible("a cluster", host_range.offset_bytes);
      }
      RETURN_IF_ERROR(Count(host_range, weight, "a cluster"));
    }
    return absl::OkStatus();
  }

  absl::Status CountBitmaps() {
    const auto read = [this](uint64_t offset, storage::Bytes buffer) {
      return file_.Read(offset, buffer);
    };
    ASSIGN_OR_RETURN(const auto extension, FindBitmapsExtension(header_));
    if (!extension.has_value()) return absl::OkStatus();
    RETURN_IF_ERROR(Count(extension->directory, 1, "the bitmap directory"));
    ASSIGN_OR_RETURN(const auto entries, ReadBitmapDirectory(header_, read));
    for (const BitmapDirectoryEntry& entry : entries) {
      RETURN_IF_ERROR(Count({entry.table_offset_bytes, uint64_t{entry.table_entries} * 8}, 1,
                            "a bitmap table"));
      ASSIGN_OR_RETURN(const auto table, ReadBitmapTable(geometry_, entry, read));
      for (const uint64_t bits : table) {
        if (bits == kBitmapTableAllZeroes || bits == kBitmapTableAllOnes) continue;
        RETURN_IF_ERROR(Count({bits, geometry_.cluster_bytes()}, 1, "a cluster of a bitmap"));
      }
    }
    return absl::OkStatus();
  }

  absl::Status CountEverything() {
    RETURN_IF_ERROR(Count({0, geometry_.cluster_bytes()}, 1, "the header"));
    RETURN_IF_ERROR(CountL1(header_.l1_offset_bytes, header_.l1_entries));
    ASSIGN_OR_RETURN(const SnapshotTable snapshots,
                     ReadSnapshotTable(header_, [this](uint64_t offset, storage::Bytes buffer) {
                       return file_.Read(offset, buffer);
                     }));
    RETURN_IF_ERROR(
        Count({header_.snapshots_offset_bytes, snapshots.length_bytes}, 1, "the snapshot table"));
    for (const Snapshot& snapshot : snapshots.snapshots) {
      RETURN_IF_ERROR(CountL1(snapshot.l1_offset_bytes, snapshot.l1_entries));
    }
    for (const auto& [offset, weight] : l2_weights_) RETURN_IF_ERROR(CountL2(offset, weight));
    return CountBitmaps();
  }

  absl::Status WriteCounts() {
    const uint64_t per_block = geometry_.refcounts_per_block();
    uint64_t blocks = 1;
    uint64_t table_clusters = 1;
    while (true) {
      const uint64_t total = file_clusters_ + blocks + table_clusters;
      const uint64_t needed = (total + per_block - 1) / per_block;
      const uint64_t table_needed = geometry_.ClustersFor(needed * 8);
      if (needed <= blocks && table_needed <= table_clusters) break;
      blocks = std::max(blocks, needed);
      table_clusters = std::max(table_clusters, table_needed);
    }
    if (table_clusters * geometry_.cluster_bytes() >
        std::max(kRefcountTableBytesMax, geometry_.cluster_bytes())) {
      return Error(Reason::kNoSpace, "the rebuilt refcount table would be too large");
    }
    const uint64_t first_block = file_clusters_;
    const uint64_t first_of_table = first_block + blocks;
    counts_.resize(first_of_table + table_clusters, 1);
    std::vector<uint64_t> table((table_clusters << geometry_.cluster_bits) / 8);
    std::vector<std::byte> block(geometry_.cluster_bytes());
    for (uint64_t i = 0; i < blocks; ++i) {
      const uint64_t offset = (first_block + i) << geometry_.cluster_bits;
      table[i] = BigEndian(offset);
      std::fill(block.begin(), block.end(), std::byte{0});
      for (uint64_t j = 0; j < per_block && i * per_block + j < counts_.size(); ++j) {
        StoreRefcount(block.data(), j, geometry_.refcount_order, counts_[i * per_block + j]);
      }
      RETURN_IF_ERROR(file_.Write(offset, block, {}));
    }
    const uint64_t table_offset = first_of_table << geometry_.cluster_bits;
    RETURN_IF_ERROR(file_.Write(
        table_offset, {reinterpret_cast<const std::byte*>(table.data()), table.size() * 8}, {}));
    RETURN_IF_ERROR(file_.Flush());
    std::vector<std::byte> sector(512);
    RETURN_IF_ERROR(file_.Read(0, absl::MakeSpan(sector)));
    StoreBigEndian(sector.data() + header_field::kRefcountTableOffset, table_offset);
    StoreBigEndian(sector.data() + header_field::kRefcountTableClusters,
                   static_cast<uint32_t>(table_clusters));
    StoreBigEndian(sector.data() + header_field::kIncompatibleFeatures,
                   header_.incompatible_features & ~incompatible_feature::kDirty);
    RETURN_IF_ERROR(file_.Write(0, sector, {}));
    return file_.Flush();
  }

  storage::Storage& file_;
  const Header& header_;
  const Geometry geometry_;
  const uint64_t file_clusters_;
  std::vector<uint32_t> counts_;
  uint64_t l1_bytes_ = 0;                    // Read so far: snapshots may share one huge table.
  std::map<uint64_t, uint64_t> l2_weights_;  // By file offset of the table.
};

}  // namespace

absl::Status RebuildRefcounts(storage::Storage& file, const Header& header) {
  return Rebuilder(file, header).Run();
}

}  // namespace tidemark::qcow2
