// One thread that watches descriptors and keeps timers for all monitors of all virtual machines.
//
// Every method is safe from any thread. Handlers, timers and posted tasks run on the loop's thread,
// one at a time; they must not block, for everybody waits meanwhile. They may call every method.
#ifndef ADAPTERS_QMP_IO_LOOP_H_
#define ADAPTERS_QMP_IO_LOOP_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "engine/base/executor.h"
#include "engine/base/mutex.h"

namespace tidemark::qmp {

class IoLoop final {
 public:
  // Is told what the descriptor is ready for: EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP. It is told
  // again and again while that lasts.
  using Handler = std::function<void(uint32_t ready)>;
  // Never zero and never used twice.
  using WatchId = uint64_t;
  using TimerId = uint64_t;

  // `name` (at most 15 bytes) is what tools such as top show for the thread.
  explicit IoLoop(std::string name = "qmp-io");
  // Runs what has been posted, also by what it runs, then joins. Watches and timers that are left
  // are dropped without a call. Not on the loop's own thread.
  ~IoLoop();
  IoLoop(const IoLoop&) = delete;
  IoLoop& operator=(const IoLoop&) = delete;

  // Runs `task` soon, after all that was posted before; never inside Post.
  void Post(Task task);

  // Runs `task` once, no sooner than `delay` from now (to the next millisecond).
  TimerId RunAfter(absl::Duration delay, Task task);
  // True if the timer will not run; its task has then been destroyed here. False if it has run,
  // runs just now or was cancelled before. On the loop's thread this leaves no doubt.
  bool Cancel(TimerId timer);

  // Calls `handler` while `fd` is ready for one of `interest` (EPOLLIN, EPOLLOUT), or has an error
  // or hung up. The descriptor stays the caller's: Unwatch comes before close. A descriptor is
  // watched once at a time.
  WatchId Watch(int fd, uint32_t interest, Handler handler);
  // Nothing is told while `interest` is 0, not even errors. Of an ended watch: no effect.
  void SetInterest(WatchId watch, uint32_t interest);
  // Ends the watch: no call of its handler begins after this has returned, except that from another
  // thread than the loop's one call, decided before, may still come or be running. On the loop's
  // thread this leaves no doubt: never again, even if the descriptor was reported ready in this
  // very round. The handler is destroyed once it does not run any more. Twice is harmless.
  void Unwatch(WatchId watch);

  bool OnLoopThread() const;

 private:
  struct Watched {
    int fd;
    uint32_t interest;
    Handler handler;
  };

  void Run();
  // How long the poll may sleep, in milliseconds; -1 without a timer.
  int SleepMilliseconds();
  void RunTimers();
  // False when there was nothing.
  bool RunPosted();
  void Dispatch(WatchId watch, uint32_t ready);
  void Wake();

  // Constant after construction.
  const std::string name_;
  int poll_fd_ = -1;
  int wake_fd_ = -1;
  std::thread thread_;

  // Synchronise themselves.
  std::atomic<std::thread::id> thread_id_;
  std::atomic<bool> stopping_ = false;
  // A wake-up is on its way and has not been taken: another one would change nothing.
  std::atomic<bool> woken_ = false;

  Mutex mutex_;
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  std::vector<Task> posted_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<WatchId, std::shared_ptr<Watched>> watches_ ABSL_GUARDED_BY(mutex_);
  // By when they are due, on SystemClock().Elapsed().
  std::map<std::pair<absl::Duration, TimerId>, Task> timers_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<TimerId, absl::Duration> due_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tidemark::qmp

#endif  // ADAPTERS_QMP_IO_LOOP_H_
