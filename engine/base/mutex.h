// Locks with thread annotations: a thin wrapper of std::mutex. Debian's prebuilt absl::Mutex waits
// on futexes that ThreadSanitizer cannot see, so code it guards would drown in false reports. Never
// call out (callback, I/O, event) with a lock held.
//
// Where a simulation plays the threads (cooperation.h) it decides who gets a lock, and who waits.
#ifndef ENGINE_BASE_MUTEX_H_
#define ENGINE_BASE_MUTEX_H_

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "engine/base/cooperation.h"

namespace tidemark {

class ABSL_LOCKABLE Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() {
    if (Cooperation* const cooperation = Cooperation::current(); cooperation != nullptr)
        [[unlikely]] {
      cooperation->Yield();
      while (!mutex_.try_lock()) cooperation->Sleep(this, absl::InfiniteDuration());
      return;
    }
    mutex_.lock();
  }
  void Unlock() ABSL_UNLOCK_FUNCTION() {
    mutex_.unlock();
    if (Cooperation* const cooperation = Cooperation::current(); cooperation != nullptr)
        [[unlikely]] {
      cooperation->Wake(this, /*all=*/false);
    }
  }
  bool TryLock() ABSL_EXCLUSIVE_TRYLOCK_FUNCTION(true) { return mutex_.try_lock(); }

 private:
  friend class CondVar;
  std::mutex mutex_;
};

class ABSL_SCOPED_LOCKABLE MutexLock {
 public:
  explicit MutexLock(Mutex* mutex) ABSL_EXCLUSIVE_LOCK_FUNCTION(mutex) : mutex_(mutex) {
    mutex_->Lock();
  }
  ~MutexLock() ABSL_UNLOCK_FUNCTION() { mutex_->Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex* const mutex_;
};

// A condition to wait for. Callers hold the mutex and test their condition in a loop.
class CondVar {
 public:
  void Wait(Mutex* mutex) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    if (Cooperation::current() != nullptr) [[unlikely]] {
      SleepWith(mutex, absl::InfiniteDuration());
      return;
    }
    std::unique_lock<std::mutex> lock(mutex->mutex_, std::adopt_lock);
    condition_.wait(lock);
    lock.release();
  }
  // False if `timeout` passed without a signal.
  bool WaitFor(Mutex* mutex, absl::Duration timeout) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    // Clamped: an infinite duration overflows std::chrono, and an hour's wait is tested again
    // anyway.
    const absl::Duration bounded = std::min(timeout, absl::Hours(1));
    if (Cooperation::current() != nullptr) [[unlikely]]
      return SleepWith(mutex, bounded);
    std::unique_lock<std::mutex> lock(mutex->mutex_, std::adopt_lock);
    const auto status = condition_.wait_for(lock, absl::ToChronoNanoseconds(bounded));
    lock.release();
    return status == std::cv_status::no_timeout;
  }
  void Signal() {
    condition_.notify_one();
    if (Cooperation* const cooperation = Cooperation::current(); cooperation != nullptr)
        [[unlikely]] {
      cooperation->Wake(this, /*all=*/false);
    }
  }
  void SignalAll() {
    condition_.notify_all();
    if (Cooperation* const cooperation = Cooperation::current(); cooperation != nullptr)
        [[unlikely]] {
      cooperation->Wake(this, /*all=*/true);
    }
  }

 private:
  // Nobody runs between the unlocking and the sleep: those who are played run one at a time.
  bool SleepWith(Mutex* mutex, absl::Duration timeout) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    mutex->Unlock();
    const bool woken = Cooperation::current()->Sleep(this, timeout);
    mutex->Lock();
    return woken;
  }

  std::condition_variable condition_;
};

}  // namespace tidemark

#endif  // ENGINE_BASE_MUTEX_H_
