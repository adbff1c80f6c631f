// Something that happens once, and that others wait for. Any thread. In place of
// absl::Notification, whose waits ThreadSanitizer cannot see (mutex.h).
#ifndef ENGINE_BASE_NOTIFICATION_H_
#define ENGINE_BASE_NOTIFICATION_H_

#include "absl/time/time.h"
#include "engine/base/clock.h"
#include "engine/base/mutex.h"

namespace tidemark {

class Notification {
 public:
  // It has happened. The one who waits may destroy this as soon as it knows.
  void Notify() {
    MutexLock lock(&mutex_);
    happened_ = true;
    changed_.SignalAll();
  }

  void Wait() {
    MutexLock lock(&mutex_);
    while (!happened_) changed_.Wait(&mutex_);
  }

  // False if it has not happened within `timeout`.
  bool WaitFor(absl::Duration timeout) {
    const absl::Duration end = SystemClock().Elapsed() + timeout;
    MutexLock lock(&mutex_);
    while (!happened_) {
      const absl::Duration left = end - SystemClock().Elapsed();
      if (left <= absl::ZeroDuration()) return false;
      changed_.WaitFor(&mutex_, left);
    }
    return true;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  bool happened_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace tidemark

#endif  // ENGINE_BASE_NOTIFICATION_H_
