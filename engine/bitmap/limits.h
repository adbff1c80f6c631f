// Every bound of this package by name.
#ifndef ENGINE_BITMAP_LIMITS_H_
#define ENGINE_BITMAP_LIMITS_H_

#include <cstdint>

namespace tidemark::bitmap {

inline constexpr uint64_t kGranularityBytesMin = 512;
inline constexpr uint64_t kGranularityBytesMax = uint64_t{1} << 31;

// Granules of one bitmap: one GiB of memory if clean and dirty ones are mixed everywhere.
inline constexpr uint64_t kGranuleCountMax = uint64_t{1} << 33;

// Bits are kept in chunks of a page, and chunks in nodes; what is uniform needs neither. At a
// granularity of 64 KiB a chunk stands for 2 GiB of disk, a node for 1 TiB.
inline constexpr uint64_t kChunkBytes = 4096;
inline constexpr uint64_t kChunkWords = kChunkBytes / 8;
inline constexpr uint64_t kChunkBits = kChunkBytes * 8;
inline constexpr uint64_t kNodeChunks = 512;
inline constexpr uint64_t kNodeBits = kNodeChunks * kChunkBits;

// Chunks asked of the system at once, and free ones that keep their pages.
inline constexpr uint64_t kSlabChunksMax = 64;
inline constexpr uint64_t kFreeChunksWithPagesMax = 64;

}  // namespace tidemark::bitmap

#endif  // ENGINE_BITMAP_LIMITS_H_
