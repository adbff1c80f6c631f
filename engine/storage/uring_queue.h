// The IoQueue over io_uring.
#ifndef ENGINE_STORAGE_URING_QUEUE_H_
#define ENGINE_STORAGE_URING_QUEUE_H_

#include <memory>

#include "engine/storage/io_queue.h"

namespace tidemark::storage {

// Null where the kernel lacks or forbids what is needed.
std::unique_ptr<IoQueue> MakeUringQueue(int depth);

}  // namespace tidemark::storage

#endif  // ENGINE_STORAGE_URING_QUEUE_H_
