// The native engine's threads: who may do what.
//
//   engine    owns the graph, the bitmap names, the job states and the exports; never waits.
//   commands  runs the commands that change the graph, and the ends of jobs, one at a time and in
//             order. May block; hops to the engine thread for all that it reads or links there.
//   workers   run job steps. May block.
//   guest     writes out what guests overwrite during a backup: a pool of its own, so that no guest
//             queues behind a job's step. May block.
//   io        makes blocking calls for copies that cannot use batch I/O. Waits for no other task.
#ifndef ENGINE_NATIVE_THREADS_H_
#define ENGINE_NATIVE_THREADS_H_

#include <thread>
#include <type_traits>
#include <utility>

#include "absl/types/optional.h"
#include "engine/base/check.h"
#include "engine/base/executor.h"
#include "engine/base/mutex.h"

namespace tidemark::native {

inline constexpr int kWorkerCount = 8;
// Enough that targets which hang hold up only their own copies.
inline constexpr int kGuestWorkerCount = 16;
inline constexpr int kIoWorkerCount = 16;

// Safe from any thread. The destructor runs what was posted and joins, commands before engine.
class Threads {
 public:
  Executor& engine() { return engine_; }
  Executor& commands() { return commands_; }
  Executor& workers() { return workers_; }
  Executor& guest() { return guest_; }
  Executor& io() { return io_; }

  // Runs `function` on the engine thread and returns what it returns. Never from the engine thread
  // itself.
  template <typename Function>
  auto OnEngine(Function&& function) {
    using Result = std::invoke_result_t<Function>;
    Mutex mutex;
    CondVar done_changed;
    bool done = false;
    // Posting and waiting, not a future: no allocation of shared state outlives this call.
    if constexpr (std::is_void_v<Result>) {
      engine_.Post([&] {
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
  // Destroyed in reverse: the engine thread last, since the others hop to it.
  SerialExecutor engine_{"td-engine"};
  WorkerPool io_{"td-io", kIoWorkerCount};
  WorkerPool guest_{"td-guest", kGuestWorkerCount};
  WorkerPool workers_{"td-worker", kWorkerCount};
  SerialExecutor commands_{"td-commands"};
};

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_THREADS_H_
