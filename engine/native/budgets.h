// What the native engine may use up, all of its clients and jobs together. A plain value; any
// thread.
#ifndef ENGINE_NATIVE_BUDGETS_H_
#define ENGINE_NATIVE_BUDGETS_H_

#include <algorithm>
#include <cstdint>

#include "engine/base/budget.h"
#include "engine/nbd/limits.h"

namespace tidemark::native {

// The least that can be worked with: one request of the largest kind for NBD, and as much for
// copies and for bitmaps.
inline constexpr uint64_t kMemoryBytesMin = uint64_t{96} << 20;
inline constexpr uint64_t kMemoryBytesDefault = uint64_t{384} << 20;

struct Budgets {
  // A third each for the data of NBD requests, the buffers of copies, and bitmaps.
  explicit Budgets(uint64_t memory_bytes)
      : nbd_memory(std::max(memory_bytes, kMemoryBytesMin) / 3),
        copy_memory(std::max(memory_bytes, kMemoryBytesMin) / 3),
        bitmap_bytes_max(std::max(memory_bytes, kMemoryBytesMin) / 3) {}

  Budget nbd_memory;
  Budget nbd_helpers{nbd::kServerHelpersMax};
  Budget copy_memory;
  // Beyond it no bitmap is added, and no job begun that keeps bits of what it has to copy. Not a
  // Budget: those that are there grow as guests write, for no mark may be lost.
  const uint64_t bitmap_bytes_max;
};

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_BUDGETS_H_
