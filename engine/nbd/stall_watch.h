// Looks after connections whose threads may all be stuck in slow requests, so that a fast request
// need not pay for handing over work "just in case". One thread for all connections of a server; it
// sleeps while there is nothing to watch.
#ifndef ENGINE_NBD_STALL_WATCH_H_
#define ENGINE_NBD_STALL_WATCH_H_

#include <atomic>
#include <set>
#include <thread>

#include "engine/base/mutex.h"

namespace tidemark::nbd {

class StallWatch {
 public:
  class Watched {
   public:
    virtual ~Watched() = default;
    // Called every kStallCheckInterval or so. False if nothing is running, so that nothing can be
    // stuck. Never blocks, never calls the watch.
    virtual bool CheckForStall() = 0;
  };

  StallWatch();
  // Everything has been removed.
  ~StallWatch();
  StallWatch(const StallWatch&) = delete;
  StallWatch& operator=(const StallWatch&) = delete;

  void Add(Watched* watched);
  // When it returns, `watched` is not being called and will not be.
  void Remove(Watched* watched);

  // Tells that something has begun to run. Cheap: for every request.
  void Notice() {
    if (asleep_.load()) WakeUp();
  }

 private:
  void Run();
  bool CheckAll() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WakeUp();

  // Set before a last look around, so that what begins later sees it and what began before is seen.
  std::atomic<bool> asleep_ = true;

  Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::set<Watched*> watched_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;  // Last: it uses the rest.
};

}  // namespace tidemark::nbd

#endif  // ENGINE_NBD_STALL_WATCH_H_
