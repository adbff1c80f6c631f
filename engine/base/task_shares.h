// Lets tasks that may block for long on to threads, so that no owner of such tasks (a disk that
// hangs) takes the threads of all others: each owner has a share of them, which shrinks as fewer
// are left. What exceeds it waits, in order, for the owner's own.
//
// Thread rule: any thread.
#ifndef ENGINE_BASE_TASK_SHARES_H_
#define ENGINE_BASE_TASK_SHARES_H_

#include <deque>
#include <functional>
#include <memory>
#include <utility>

#include "absl/time/time.h"
#include "engine/base/executor.h"
#include "engine/base/mutex.h"

namespace tidemark {

class TaskShares {
 public:
  // `run` has a task run at once on a thread that may block; at most `running_max` do at a time.
  // It works until the last owner is gone. Those threads are joined before this is destroyed: a
  // task gives its place back only after it has done what others may wait for.
  using Run = std::function<void(Task)>;
  TaskShares(int running_max, int share_max, Run run);
  ~TaskShares();
  TaskShares(const TaskShares&) = delete;
  TaskShares& operator=(const TaskShares&) = delete;

  // A place to post the tasks of one owner. They start in the order posted. It may be destroyed
  // while its tasks wait or run. PostAfter is not for blocking tasks and is not offered (CHECKed).
  std::unique_ptr<Executor> MakeOwner();

  int running_count() const;

 private:
  struct Owner;
  class OwnerExecutor;

  void Add(const std::shared_ptr<Owner>& owner, Task task);
  // How many tasks of one owner may run now.
  int ShareLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes what may begin now off the queues.
  void TakeLocked(std::deque<std::pair<std::shared_ptr<Owner>, Task>>* begun)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Begin(std::deque<std::pair<std::shared_ptr<Owner>, Task>> begun);

  // Constant after construction.
  const int running_max_;
  const int share_max_;
  const Run run_;

  mutable Mutex mutex_;
  int running_count_ ABSL_GUARDED_BY(mutex_) = 0;
  // Those with tasks that wait, in turn.
  std::deque<std::shared_ptr<Owner>> waiting_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tidemark

#endif  // ENGINE_BASE_TASK_SHARES_H_
