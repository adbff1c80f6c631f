// Waits for many queues on one thread, so that nobody has to sleep in a Reap: whoever owns a queue
// is told that something of it has completed, and comes by to reap it. Any thread.
#ifndef ENGINE_STORAGE_COMPLETION_WATCH_H_
#define ENGINE_STORAGE_COMPLETION_WATCH_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <thread>

#include "absl/container/flat_hash_map.h"
#include "engine/base/mutex.h"
#include "engine/storage/io_queue.h"

namespace tidemark::storage {

class CompletionWatch {
 public:
  CompletionWatch();
  // Nothing may be watched any more (CHECKed).
  ~CompletionWatch();
  CompletionWatch(const CompletionWatch&) = delete;
  CompletionWatch& operator=(const CompletionWatch&) = delete;

  // Calls `on_completion` on the watch's thread after something has completed, at least once for
  // all that a Reap has not brought yet; also after a Wake, and now and then for nothing. It must
  // not wait, nor call the watch. False if the queue cannot be watched (no descriptors left): it is
  // to be reaped with a timeout then.
  bool Add(IoQueue* queue, std::function<void()> on_completion);
  // Afterwards `on_completion` neither runs nor will. Before the queue goes.
  void Remove(IoQueue* queue);

 private:
  struct Watched {
    IoQueue* queue;
    std::function<void()> on_completion;
  };

  void Run();

  // Constant after construction; -1 where they could not be had.
  int epoll_fd_ = -1;
  int stop_fd_ = -1;
  std::thread thread_;

  // Held while a callback runs, so that Remove waits for it.
  Mutex mutex_;
  uint64_t next_number_ ABSL_GUARDED_BY(mutex_) = 1;
  absl::flat_hash_map<uint64_t, Watched> watched_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tidemark::storage

#endif  // ENGINE_STORAGE_COMPLETION_WATCH_H_
