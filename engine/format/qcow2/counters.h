// The counters behind Statistics. Any thread.
#ifndef ENGINE_FORMAT_QCOW2_COUNTERS_H_
#define ENGINE_FORMAT_QCOW2_COUNTERS_H_

#include <atomic>
#include <cstdint>

namespace tidemark::qcow2 {

struct Counters {
  std::atomic<uint64_t> clusters_allocated = 0;
  std::atomic<uint64_t> clusters_freed = 0;
  std::atomic<uint64_t> checkpoints = 0;
  std::atomic<uint64_t> file_flushes = 0;
  std::atomic<uint64_t> l2_slices_read = 0;
  std::atomic<uint64_t> l2_bytes_written = 0;
  std::atomic<uint64_t> refcount_blocks_read = 0;
  std::atomic<uint64_t> refcount_bytes_written = 0;
};

}  // namespace tidemark::qcow2

#endif  // ENGINE_FORMAT_QCOW2_COUNTERS_H_
