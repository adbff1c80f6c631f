// The calls by which a ring enters the kernel, so that a test can put others in their place that
// fail. Used by the thread of the queue.
#ifndef ENGINE_STORAGE_RING_ENTRY_H_
#define ENGINE_STORAGE_RING_ENTRY_H_

#include <liburing.h>

namespace tidemark::storage {

class RingEntry {
 public:
  virtual ~RingEntry() = default;

  // Entries taken by the kernel, or -errno.
  virtual int Submit(io_uring* ring) { return io_uring_submit(ring); }
  // 0 once there is an answer, or -errno: -ETIME at the timeout.
  virtual int Wait(io_uring* ring, __kernel_timespec* timeout) {
    io_uring_cqe* answer = nullptr;
    return io_uring_wait_cqe_timeout(ring, &answer, timeout);
  }
};

}  // namespace tidemark::storage

#endif  // ENGINE_STORAGE_RING_ENTRY_H_
