// Runs what was posted when it is told to. Tests only.
#ifndef ADAPTERS_QMP_TESTING_QUEUE_EXECUTOR_H_
#define ADAPTERS_QMP_TESTING_QUEUE_EXECUTOR_H_

#include <deque>
#include <utility>

#include "engine/base/executor.h"
#include "engine/base/mutex.h"

namespace tidemark::qmp {

class QueueExecutor final : public Executor {
 public:
  void Post(Task task) override {
    MutexLock lock(&mutex_);
    tasks_.push_back(std::move(task));
  }
  // The clock stands still.
  void PostAfter(absl::Duration, Task) override {}

  void RunAll() {
    while (true) {
      Task next;
      {
        MutexLock lock(&mutex_);
        if (tasks_.empty()) return;
        next = std::move(tasks_.front());
        tasks_.pop_front();
      }
      next();
    }
  }

 private:
  Mutex mutex_;
  std::deque<Task> tasks_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tidemark::qmp

#endif  // ADAPTERS_QMP_TESTING_QUEUE_EXECUTOR_H_
