// The IoQueue over io_uring.
#ifndef ENGINE_STORAGE_URING_QUEUE_H_
#define ENGINE_STORAGE_URING_QUEUE_H_

#include <memory>

#include "engine/storage/io_queue.h"
#include "engine/storage/ring_entry.h"

namespace tidemark::storage {

// Null where the kernel lacks or forbids what is needed.
std::unique_ptr<IoQueue> MakeUringQueue(int depth);
// The same, with the calls into the kernel made by `entry`.
std::unique_ptr<IoQueue> MakeUringQueueWith(int depth, std::unique_ptr<RingEntry> entry);

}  // namespace tidemark::storage

#endif  // ENGINE_STORAGE_URING_QUEUE_H_
