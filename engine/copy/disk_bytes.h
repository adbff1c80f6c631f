// How much of a disk a bitmap says. Any thread.
#ifndef ENGINE_COPY_DISK_BYTES_H_
#define ENGINE_COPY_DISK_BYTES_H_

#include <cstdint>

#include "engine/bitmap/dirty_bitmap.h"

namespace tidemark::copy {

// Unlike the bitmap's own count, without what the last granule has past the end of the disk.
inline uint64_t DiskBytesOf(const bitmap::DirtyBitmap& bits) {
  const uint64_t size_bytes = bits.size_bytes();
  const uint64_t bytes = bits.CountBytes();
  const uint64_t tail_bytes = size_bytes % bits.granularity_bytes();
  if (tail_bytes == 0 || !bits.IsDirty(size_bytes - 1)) return bytes;
  return bytes - (bits.granularity_bytes() - tail_bytes);
}

}  // namespace tidemark::copy

#endif  // ENGINE_COPY_DISK_BYTES_H_
