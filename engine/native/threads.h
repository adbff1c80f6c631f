// The native engine's threads: who may do what.
//
//   engine    owns the graph, the bitmap names, the job states and the exports; never waits.
//   commands  run the commands that change the graph, and the ends of jobs, each on a thread of its
//             own, in the order that command_queue.h says. May block; hop to the engine thread for
//             all that they read or link there.
//   workers   run job steps. May block.
//   guest     writes out what guests overwrite during a backup: a pool of its own, so that no guest
//             queues behind a job's step. May block.
//   io        makes blocking calls for copies that cannot use batch I/O. Waits for no other task.
#ifndef ENGINE_NATIVE_THREADS_H_
#define ENGINE_NATIVE_THREADS_H_

#include <type_traits>
#include <utility>

#include "absl/types/optional.h"
#include "engine/base/elastic_pool.h"
#include "engine/base/executor.h"
#include "engine/base/mutex.h"
#include "engine/native/limits.h"

namespace tidemark::native {

inline constexpr int kWorkerCount = 8;
// Enough that targets which hang hold up only their own copies.
inline constexpr int kGuestWorkerCount = 16;
inline constexpr int kIoWorkerCount = 16;

// Safe from any thread. The destructor runs what was posted and joins, commands before engine.
class Threads {
 public:
  Executor& engine() { return engine_; }
  ElasticPool& commands() { return commands_; }
  Executor& workers() { return workers_; }
  Executor& guest() { return guest_; }
  Executor& io() { return io_; }

  // Engine thread, at a shutdown that waits no longer for what hangs: from now on OnEngine does
  // nothing, and never returns. So threads that hang at a disk keep off the graph should it answer.
  // The shutdown's own (ShutdownScope) go on until they are given up, too.
  void GiveUpCommands() { commands_given_up_ = true; }
  void GiveUpAll() { commands_given_up_ = all_given_up_ = true; }

  // While it lives, the calling thread works for the shutdown.
  class ShutdownScope {
   public:
    ShutdownScope() { IsOfShutdown() = true; }
    ~ShutdownScope() { IsOfShutdown() = false; }
    ShutdownScope(const ShutdownScope&) = delete;
    ShutdownScope& operator=(const ShutdownScope&) = delete;
  };

  // Runs `function` on the engine thread and returns what it returns. Never from the engine thread
  // itself.
  template <typename Function>
  auto OnEngine(Function&& function) {
    using Result = std::invoke_result_t<Function>;
    Mutex mutex;
    CondVar done_changed;
    bool done = false;
    const bool of_shutdown = IsOfShutdown();
    // Posting and waiting, not a future: no allocation of shared state outlives this call.
    if constexpr (std::is_void_v<Result>) {
      engine_.Post([&] {
        if (IsGivenUp(of_shutdown)) return;
        function();
        MutexLock lock(&mutex);
        done = true;
        done_changed.SignalAll();
      });
      MutexLock lock(&mutex);
      while (!done) done_changed.Wait(&mutex);
    } else {
      absl::optional<Result> result;
      engine_.Post([&] {
        if (IsGivenUp(of_shutdown)) return;
        absl::optional<Result> value(function());
        MutexLock lock(&mutex);
        result = std::move(value);
        done = true;
        done_changed.SignalAll();
      });
      MutexLock lock(&mutex);
      while (!done) done_changed.Wait(&mutex);
      return *std::move(result);
    }
  }

 private:
  static bool& IsOfShutdown() {
    thread_local bool is_of_shutdown = false;
    return is_of_shutdown;
  }
  // Engine thread: whether a caller is not to be served any more.
  bool IsGivenUp(bool of_shutdown) const {
    return of_shutdown ? all_given_up_ : commands_given_up_;
  }

  // Engine thread.
  bool commands_given_up_ = false;
  bool all_given_up_ = false;

  // Destroyed in reverse: the engine thread last, since the others hop to it.
  SerialExecutor engine_{"td-engine"};
  WorkerPool io_{"td-io", kIoWorkerCount};
  WorkerPool guest_{"td-guest", kGuestWorkerCount};
  WorkerPool workers_{"td-worker", kWorkerCount};
  ElasticPool commands_{"td-command", kCommandThreadIdleMax};
};

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_THREADS_H_
