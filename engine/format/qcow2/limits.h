// Every bound the qcow2 driver puts on what it reads from disk, and on its own memory.
#ifndef ENGINE_FORMAT_QCOW2_LIMITS_H_
#define ENGINE_FORMAT_QCOW2_LIMITS_H_

#include <cstddef>
#include <cstdint>

namespace tidemark::qcow2 {

// Of the format: 512 B to 2 MiB.
inline constexpr uint32_t kClusterBitsMin = 9;
inline constexpr uint32_t kClusterBitsMax = 21;
// Refcounts of 1 to 64 bits.
inline constexpr uint32_t kRefcountOrderMax = 6;
// Bytes of the active L1 table; QEMU's limit too. 2 PiB at 64 KiB clusters.
inline constexpr uint64_t kL1BytesMax = uint64_t{32} << 20;
// Bytes of the refcount table; QEMU's limit too.
inline constexpr uint64_t kRefcountTableBytesMax = uint64_t{8} << 20;
inline constexpr uint32_t kSnapshotsMax = 65536;
inline constexpr uint64_t kSnapshotTableBytesMax = uint64_t{64} << 20;
// Clusters of a file whose refcounts are rebuilt in memory; four bytes each.
inline constexpr uint64_t kRebuildClustersMax = uint64_t{64} << 20;
// Of the L1 tables of the disk and all its snapshots, when refcounts are rebuilt.
inline constexpr uint64_t kRebuildL1BytesMax = uint64_t{512} << 20;
// A host offset has 56 bits in an L2 entry.
inline constexpr uint64_t kHostOffsetEnd = uint64_t{1} << 56;
inline constexpr size_t kBackingFileNameMax = 1023;
inline constexpr size_t kBackingFormatMax = 15;  // As QEMU reads.
inline constexpr size_t kHeaderExtensionsMax = 256;

// L2 tables are cached in slices of at most this.
inline constexpr uint64_t kSliceBytesMax = uint64_t{64} << 10;
inline constexpr uint64_t kL2CacheBytesDefault = uint64_t{32} << 20;
inline constexpr uint64_t kRefcountCacheBytes = uint64_t{8} << 20;
// Freed clusters that may wait for the checkpoint that lets them be used again.
inline constexpr uint64_t kPendingFreeBytesMax = uint64_t{256} << 20;
inline constexpr size_t kPendingFreesMax = 65536;
// What one step of a large request (allocation, zeroing) covers.
inline constexpr uint64_t kStepBytesMax = uint64_t{16} << 20;

inline constexpr uint32_t kSnapshotExtraBytesMax = 1024;

// Of the bitmaps extension; QEMU's limits too.
inline constexpr uint32_t kBitmapsMax = 65535;
inline constexpr uint64_t kBitmapDirectoryBytesMax = uint64_t{kBitmapsMax} * 1024;
inline constexpr size_t kBitmapNameBytesMax = 1023;
inline constexpr uint32_t kBitmapGranularityBitsMin = 9;
inline constexpr uint32_t kBitmapGranularityBitsMax = 31;
// Of one bitmap in the image, in whole clusters.
inline constexpr uint64_t kBitmapBytesMax = uint64_t{512} << 20;
// Of all bitmaps of an image together, our own bound: an image of a few kilobytes can claim them.
// Clusters of bits that are all zeroes or all ones do not count, since they take no memory.
inline constexpr uint64_t kBitmapBytesTotalMax = uint64_t{1} << 30;
inline constexpr uint64_t kBitmapTableBytesTotalMax = uint64_t{24} << 20;

// Of a check, which must not be the way to exhaust a machine.
inline constexpr size_t kCheckFindingsMax = 100;
inline constexpr uint64_t kCheckL1BytesMax = uint64_t{4} << 30;
inline constexpr size_t kCheckL2TablesMax = size_t{4} << 20;
// Clusters of the file counted at a time, eight bytes each, and how many times.
inline constexpr uint64_t kCheckWindowClusters = uint64_t{8} << 20;
inline constexpr int kCheckWindowsMax = 256;

}  // namespace tidemark::qcow2

#endif  // ENGINE_FORMAT_QCOW2_LIMITS_H_
