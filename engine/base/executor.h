// Where work runs. The engine thread is a SerialExecutor, the workers are a WorkerPool; both are
// Executors, so that one thread can play every role in simulation.
#ifndef ENGINE_BASE_EXECUTOR_H_
#define ENGINE_BASE_EXECUTOR_H_

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"
#include "engine/base/mutex.h"
#include "engine/base/thread.h"

namespace tidemark {

using Task = absl::AnyInvocable<void()>;

// Runs tasks some time after they are posted, never inside Post. Safe from any thread.
class Executor {
 public:
  virtual ~Executor() = default;

  virtual void Post(Task task) = 0;

  // Runs `task` no sooner than `delay` from now. A task still waiting when the executor ends is
  // destroyed without having run.
  virtual void PostAfter(absl::Duration delay, Task task) = 0;
};

// A fixed number of threads that may block. Tasks start in the order posted. The destructor runs
// what was posted (not what still waits for its delay) and joins.
class WorkerPool : public Executor {
 public:
  // Threads for work in the background get their share of the processor like all others, but push
  // nobody aside when they wake (SCHED_BATCH).
  enum class Urgency { kNormal, kBackground };

  // `name` (at most 15 bytes) is what tools such as top show for the threads.
  WorkerPool(std::string name, int thread_count, Urgency urgency = Urgency::kNormal);
  ~WorkerPool() override;

  void Post(Task task) override;
  void PostAfter(absl::Duration delay, Task task) override;

 private:
  void Run();

  // Constant after construction.
  const std::string name_;
  const Urgency urgency_;
  std::vector<Thread> threads_;

  Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<Task> ready_ ABSL_GUARDED_BY(mutex_);
  // By the time on SystemClock().Elapsed() at which each is due.
  std::multimap<absl::Duration, Task> delayed_ ABSL_GUARDED_BY(mutex_);
};

// One thread: tasks run one after another, in the order posted.
class SerialExecutor final : public WorkerPool {
 public:
  explicit SerialExecutor(std::string name, Urgency urgency = Urgency::kNormal)
      : WorkerPool(std::move(name), 1, urgency) {}
};

}  // namespace tidemark

#endif  // ENGINE_BASE_EXECUTOR_H_
