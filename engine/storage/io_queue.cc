#include "engine/storage/io_queue.h"

#include "engine/base/check.h"
#include "engine/base/cooperation.h"
#include "engine/storage/limits.h"
#include "engine/storage/uring_queue.h"

namespace tidemark::storage {

std::unique_ptr<IoQueue> MakeIoQueue(int depth) {
  CHECK(depth > 0 && depth <= kQueueDepthMax);
  // No simulation can play the kernel's part of a ring.
  if (Cooperation::current() != nullptr) return MakeThreadIoQueue(depth);
  std::unique_ptr<IoQueue> queue = MakeUringQueue(depth);
  return queue != nullptr ? std::move(queue) : MakeThreadIoQueue(depth);
}

}  // namespace tidemark::storage
