#include "service/heap.h"

#include <malloc.h>

#include <cstddef>

#include "absl/time/time.h"

namespace tidemark {
namespace {

// One for each of two threads that allocate at the same moment; more only spread what is free.
constexpr int kArenasMax = 2;
// Blocks of this size come from the kernel and go back to it. (Left alone, the limit grows with
// each large block that is freed, and then they stay.)
constexpr int kMappedBlockBytesMin = 256 * 1024;
constexpr int kTopBytesMax = 1024 * 1024;
constexpr absl::Duration kTrimInterval = absl::Seconds(30);
constexpr size_t kTrimBytesMin = size_t{16} << 20;

}  // namespace

void BoundHeap() {
  mallopt(M_ARENA_MAX, kArenasMax);
  mallopt(M_MMAP_THRESHOLD, kMappedBlockBytesMin);
  mallopt(M_TRIM_THRESHOLD, kTopBytesMax);
}

void TrimHeapFromTimeToTime(Executor& executor) {
  executor.PostAfter(kTrimInterval, [&executor] {
    // Free, in all arenas: a look at the lists, not at the blocks.
    if (mallinfo2().fordblks >= kTrimBytesMin) malloc_trim(0);
    TrimHeapFromTimeToTime(executor);
  });
}

}  // namespace tidemark
