// The order to stop, made once and for all, and who waits for it. Any thread.
#ifndef SERVICE_STOP_REQUEST_H_
#define SERVICE_STOP_REQUEST_H_

#include <cstdint>
#include <functional>
#include <map>
#include <utility>

#include "engine/base/mutex.h"

namespace tidemark {

class StopRequest {
 public:
  void Make() {
    std::map<uint64_t, std::function<void()>> acts;
    {
      MutexLock lock(&mutex_);
      is_made_ = true;
      acts.swap(acts_);
      changed_.SignalAll();
    }
    for (auto& [id, act] : acts) act();
  }

  bool is_made() const {
    MutexLock lock(&mutex_);
    return is_made_;
  }

  void Wait() {
    MutexLock lock(&mutex_);
    while (!is_made_) changed_.Wait(&mutex_);
  }

  // Runs `act` once, on the thread that makes the order; at once if it is made. Returns a number
  // for Forget. An `act` that has begun still runs after that.
  uint64_t Then(std::function<void()> act) {
    {
      MutexLock lock(&mutex_);
      if (!is_made_) {
        acts_.emplace(++last_id_, std::move(act));
        return last_id_;
      }
    }
    act();
    return 0;
  }
  void Forget(uint64_t id) {
    MutexLock lock(&mutex_);
    acts_.erase(id);
  }

 private:
  mutable Mutex mutex_;
  CondVar changed_;
  bool is_made_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t last_id_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, std::function<void()>> acts_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tidemark

#endif  // SERVICE_STOP_REQUEST_H_
