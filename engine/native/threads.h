// The native engine's threads: who may do what.
//
//   engine    owns the graph, the bitmap names, the job states and the exports; never waits.
//   commands  run the commands that change the graph, and the ends of jobs, each on a thread of its
//             own, in the order that command_queue.h says. May block; hop to the engine thread for
//             all that they read or link there.
//   workers   run job steps. Never wait for a disk.
//   guest     writes out what guests overwrite during backups: threads of their own, so that no
//             guest queues behind a job. May block, each for its own copy.
//   disk      makes the calls of jobs that may wait for a disk. As many threads as there are such
//             calls, up to a limit, with a share for each side of each job: so a disk that hangs
//             holds up its own jobs only.
//   watch     tells copies that their requests have ended.
#ifndef ENGINE_NATIVE_THREADS_H_
#define ENGINE_NATIVE_THREADS_H_

#include <memory>
#include <type_traits>
#include <utility>

#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "engine/base/elastic_pool.h"
#include "engine/base/executor.h"
#include "engine/base/mutex.h"
#include "engine/base/task_shares.h"
#include "engine/native/limits.h"
#include "engine/storage/completion_watch.h"

namespace tidemark::native {

inline constexpr int kWorkerCount = 4;
// Enough that disks which hang hold up only their own copies.
inline constexpr int kGuestThreadCountMax = 256;
inline constexpr int kDiskThreadCountMax = 256;
// The threads that one side of a job has at most, while there are enough.
inline constexpr int kDiskShareMax = 4;
// How long a thread of these that has nothing to do stays.
inline constexpr absl::Duration kDiskThreadIdle = absl::Seconds(10);

// Safe from any thread. The destructor runs what was posted and joins, commands before engine.
class Threads {
 public:
  explicit Threads(int worker_count = kWorkerCount) : workers_("td-worker", worker_count) {}

  Executor& engine() { return engine_; }
  ElasticPool& commands() { return commands_; }
  Executor& workers() { return workers_; }

  // For the calls of one side of one job; for what one copy writes out for guests. Tasks may be
  // posted as long as this lives.
  std::unique_ptr<Executor> MakeDiskShare() { return disk_shares_.MakeOwner(); }
  std::unique_ptr<Executor> MakeGuestShare() { return guest_shares_.MakeOwner(); }

  const std::shared_ptr<storage::CompletionWatch>& watch() const { return watch_; }

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
  const std::shared_ptr<storage::CompletionWatch> watch_ =
      std::make_shared<storage::CompletionWatch>();
  TaskShares disk_shares_{kDiskThreadCountMax, kDiskShareMax,
                          [this](Task task) { disk_threads_.Post(std::move(task)); }};
  ElasticPool disk_threads_{"td-disk", kDiskThreadIdle};
  TaskShares guest_shares_{kGuestThreadCountMax, 1,
                           [this](Task task) { guest_threads_.Post(std::move(task)); }};
  ElasticPool guest_threads_{"td-guest", kDiskThreadIdle};
  WorkerPool workers_;
  ElasticPool commands_{"td-command", kCommandThreadIdleMax};
};

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_THREADS_H_
