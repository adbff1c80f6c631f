// The bytes of a qcow2 file: field offsets, feature bits, table entries. For readers and writers
// alike; all integers are big-endian. Plain values; any thread.
//
//   file    := cluster*                 cluster 0 begins with the header and its extensions
//   header  -> refcount table -> refcount blocks     how often each cluster of the file is used
//   header  -> L1 table -> L2 tables -> clusters     where each cluster of the disk lives
#ifndef ENGINE_FORMAT_QCOW2_LAYOUT_H_
#define ENGINE_FORMAT_QCOW2_LAYOUT_H_

#include <cstddef>
#include <cstdint>

#include "engine/base/range.h"

namespace tidemark::qcow2 {

inline constexpr uint32_t kMagic = 0x514649fb;  // "QFI\xfb"

// Byte offsets of the header's fields.
namespace header_field {
inline constexpr size_t kMagic = 0;                   // u32
inline constexpr size_t kVersion = 4;                 // u32
inline constexpr size_t kBackingFileOffset = 8;       // u64
inline constexpr size_t kBackingFileSize = 16;        // u32
inline constexpr size_t kClusterBits = 20;            // u32
inline constexpr size_t kSize = 24;                   // u64
inline constexpr size_t kCryptMethod = 32;            // u32
inline constexpr size_t kL1Entries = 36;              // u32
inline constexpr size_t kL1TableOffset = 40;          // u64
inline constexpr size_t kRefcountTableOffset = 48;    // u64
inline constexpr size_t kRefcountTableClusters = 56;  // u32
inline constexpr size_t kSnapshotCount = 60;          // u32
inline constexpr size_t kSnapshotsOffset = 64;        // u64
inline constexpr size_t kVersion2End = 72;
inline constexpr size_t kIncompatibleFeatures = 72;  // u64
inline constexpr size_t kCompatibleFeatures = 80;    // u64
inline constexpr size_t kAutoclearFeatures = 88;     // u64
inline constexpr size_t kRefcountOrder = 96;         // u32
inline constexpr size_t kHeaderLength = 100;         // u32
inline constexpr size_t kVersion3LengthMin = 104;
inline constexpr size_t kCompressionType = 104;  // u8, if the header is long enough
inline constexpr size_t kVersion3Length = 112;   // What we write.
}  // namespace header_field

namespace incompatible_feature {
inline constexpr uint64_t kDirty = 1;         // Refcounts may be wrong (lazy refcounts).
inline constexpr uint64_t kCorrupt = 2;       // Not to be written until repaired.
inline constexpr uint64_t kExternalData = 4;  // Not supported.
inline constexpr uint64_t kCompressionType = 8;
inline constexpr uint64_t kExtendedL2 = 16;  // Not supported.
}  // namespace incompatible_feature

namespace compatible_feature {
inline constexpr uint64_t kLazyRefcounts = 1;
}

namespace autoclear_feature {
inline constexpr uint64_t kBitmaps = 1;  // The bitmaps extension is consistent with the data.
inline constexpr uint64_t kRawExternalData = 2;
}  // namespace autoclear_feature

namespace extension_type {
inline constexpr uint32_t kEnd = 0;
inline constexpr uint32_t kBackingFormat = 0xe2792aca;
inline constexpr uint32_t kFeatureNames = 0x6803f857;
inline constexpr uint32_t kBitmaps = 0x23852875;
inline constexpr uint32_t kEncryption = 0x0537be77;
inline constexpr uint32_t kExternalDataName = 0x44415441;
}  // namespace extension_type

enum class CompressionType : uint8_t { kZlib = 0, kZstd = 1 };

// Bits of L1 and L2 entries.
inline constexpr uint64_t kEntryCopied = uint64_t{1} << 63;  // Refcount is exactly one.
inline constexpr uint64_t kEntryCompressed = uint64_t{1} << 62;
inline constexpr uint64_t kEntryZero = 1;  // Version 3: reads as zeroes.
inline constexpr uint64_t kEntryOffsetMask = 0x00fffffffffffe00;
inline constexpr uint64_t kL1ReservedMask = 0x7f000000000001ff;
// Of an L2 entry that is not compressed; kEntryZero is reserved too in version 2.
inline constexpr uint64_t kL2ReservedMask = 0x3f000000000001fe;
// Of a refcount table entry.
inline constexpr uint64_t kRefcountTableOffsetMask = 0xfffffffffffffe00;

// Everything that follows from the cluster size, the refcount width and the kind of L2 entries.
struct Geometry {
  uint32_t cluster_bits = 16;
  uint32_t refcount_order = 4;
  // L2 entries of 128 bits, with 32 subclusters to a cluster (l2_entries.h). No header that is
  // accepted has them yet.
  bool extended_l2 = false;

  constexpr uint64_t cluster_bytes() const { return uint64_t{1} << cluster_bits; }
  constexpr uint64_t OffsetInCluster(uint64_t offset_bytes) const {
    return offset_bytes & (cluster_bytes() - 1);
  }
  constexpr uint64_t RoundDown(uint64_t bytes) const { return bytes & ~(cluster_bytes() - 1); }
  // `bytes` must leave room for one more cluster.
  constexpr uint64_t RoundUp(uint64_t bytes) const {
    return RoundDown(bytes + cluster_bytes() - 1);
  }
  constexpr uint64_t ClustersFor(uint64_t bytes) const {
    return (bytes >> cluster_bits) + (OffsetInCluster(bytes) != 0 ? 1 : 0);
  }

  constexpr uint32_t l2_entry_bits() const { return extended_l2 ? 4 : 3; }
  constexpr uint32_t subclusters_per_cluster() const { return extended_l2 ? 32 : 1; }
  constexpr uint64_t subcluster_bytes() const {
    return cluster_bytes() / subclusters_per_cluster();
  }

  constexpr uint32_t l2_bits() const { return cluster_bits - l2_entry_bits(); }
  constexpr uint64_t l2_entries() const { return uint64_t{1} << l2_bits(); }
  // Disk bytes that one L2 table maps.
  constexpr uint64_t l2_coverage_bytes() const { return uint64_t{1} << (l2_bits() + cluster_bits); }
  // Entries an L1 table needs for a disk of `size_bytes`.
  constexpr uint64_t L1EntriesFor(uint64_t size_bytes) const {
    return (size_bytes >> (l2_bits() + cluster_bits)) +
           ((size_bytes & (l2_coverage_bytes() - 1)) != 0 ? 1 : 0);
  }

  constexpr uint32_t refcount_bits() const { return 1u << refcount_order; }
  constexpr uint64_t refcount_max() const {
    return refcount_order == 6 ? ~uint64_t{0} : (uint64_t{1} << refcount_bits()) - 1;
  }
  constexpr uint32_t refcount_block_bits() const { return cluster_bits + 3 - refcount_order; }
  constexpr uint64_t refcounts_per_block() const { return uint64_t{1} << refcount_block_bits(); }

  // How a compressed L2 entry divides its 62 bits.
  constexpr uint32_t compressed_offset_bits() const { return 62 - (cluster_bits - 8); }
  constexpr uint64_t compressed_offset_mask() const {
    return (uint64_t{1} << compressed_offset_bits()) - 1;
  }
  // Where a compressed cluster's bytes are in the file. The last sector may reach beyond the data,
  // and beyond the end of the file.
  constexpr Range CompressedRange(uint64_t entry) const {
    const uint64_t offset = entry & compressed_offset_mask();
    const uint64_t more_sectors =
        (entry & ~(kEntryCopied | kEntryCompressed)) >> compressed_offset_bits();
    return {offset, (more_sectors + 1) * 512 - (offset & 511)};
  }
  // The entry for `range`, which must not be empty nor longer than a cluster.
  constexpr uint64_t CompressedEntry(Range range) const {
    const uint64_t more_sectors = ((range.end_bytes() - 1) >> 9) - (range.offset_bytes >> 9);
    return kEntryCompressed | range.offset_bytes | more_sectors << compressed_offset_bits();
  }
};

// One refcount in a block of `block` bytes. Widths below a byte fill each byte from its low end.
uint64_t LoadRefcount(const std::byte* block, uint64_t index, uint32_t refcount_order);
void StoreRefcount(std::byte* block, uint64_t index, uint32_t refcount_order, uint64_t value);

}  // namespace tidemark::qcow2

#endif  // ENGINE_FORMAT_QCOW2_LAYOUT_H_
