// How --memory_max is shared out: a quarter each for the data of NBD requests, the buffers of
// copies and bitmaps (which the native engine shares out by itself), and for gRPC clients.
#ifndef SERVICE_MEMORY_SHARES_H_
#define SERVICE_MEMORY_SHARES_H_

#include <cstdint>
#include <string>

namespace tidemark {

// The least that can be worked with: see native::kMemoryBytesMin.
inline constexpr uint64_t kMemoryMaxLeast = uint64_t{128} << 20;

// In bytes.
struct MemoryShares {
  // Of `memory_max` bytes, which are at least kMemoryMaxLeast.
  explicit MemoryShares(uint64_t memory_max)
      : engine(memory_max / 4 * 3),
        transport(memory_max / 8),
        calls(memory_max / 32 * 3),
        streams(memory_max / 32) {}

  uint64_t engine;
  // gRPC itself: requests that are still coming in, and what connections hold.
  uint64_t transport;
  // Requests that are being carried out, and replies that are not sent yet.
  uint64_t calls;
  uint64_t streams;
};

// --memory_max unless said: an eighth of what this process may use of the machine's memory, from
// 256 MiB to 1 GiB. Reads files of the kernel's only.
uint64_t DefaultMemoryMax();

// The same for a machine with `machine_bytes`, in which the files /sys/fs/cgroup/memory.max and the
// like say `group_max`: "max" or empty means no limit.
uint64_t DefaultMemoryMax(uint64_t machine_bytes, const std::string& group_max);

}  // namespace tidemark

#endif  // SERVICE_MEMORY_SHARES_H_
