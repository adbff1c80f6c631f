// The IoQueue where io_uring is forbidden, and for targets that want calls.
#ifndef ENGINE_STORAGE_THREAD_QUEUE_H_
#define ENGINE_STORAGE_THREAD_QUEUE_H_

#include <functional>
#include <memory>

#include "engine/storage/io_queue.h"

namespace tidemark::storage {

// `on_completion` (may be null) is called after each completion, on a thread of the queue, before
// the queue's destructor returns; a Reap then finds it. It must not wait.
std::unique_ptr<IoQueue> MakeThreadQueue(int depth, std::function<void()> on_completion);

}  // namespace tidemark::storage

#endif  // ENGINE_STORAGE_THREAD_QUEUE_H_
