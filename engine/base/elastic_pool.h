// As many threads as there is work that blocks: each task has one at once, and threads that nobody
// needs end after a while. For work that may hang, such as opening a file, so that it is never in
// the way of other work. How many tasks there may be at a time is decided by whoever posts them.
#ifndef ENGINE_BASE_ELASTIC_POOL_H_
#define ENGINE_BASE_ELASTIC_POOL_H_

#include <deque>
#include <list>
#include <string>

#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "engine/base/executor.h"
#include "engine/base/mutex.h"
#include "engine/base/thread.h"

namespace tidemark {

// Safe from any thread. The destructor waits for all tasks.
class ElasticPool {
 public:
  // `name` (at most 15 bytes) is what tools such as top show for the threads. A thread that had
  // nothing to do for `idle_max` ends.
  ElasticPool(std::string name, absl::Duration idle_max);
  ~ElasticPool();
  ElasticPool(const ElasticPool&) = delete;
  ElasticPool& operator=(const ElasticPool&) = delete;

  // Runs `task` on a thread of its own, never inside Post. Where the machine has no thread to give
  // it waits for one of those that are at work.
  void Post(Task task);

  // How many threads there are, at work or idle.
  int thread_count() const;

 private:
  using Threads = std::list<absl::optional<Thread>>;

  void Run(Threads::iterator self);
  void StartThread() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Threads that have left Run: joining them waits for nothing.
  void JoinEnded();

  // Constant after construction.
  const std::string name_;
  const absl::Duration idle_max_;

  mutable Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<Task> waiting_ ABSL_GUARDED_BY(mutex_);
  size_t idle_count_ ABSL_GUARDED_BY(mutex_) = 0;
  Threads threads_ ABSL_GUARDED_BY(mutex_);
  Threads ended_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tidemark

#endif  // ENGINE_BASE_ELASTIC_POOL_H_
