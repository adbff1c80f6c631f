// The guests that are held while a group of jobs does its last step: let go when all is over, or
// when it takes too long, whichever comes first.
//
// Thread rule: any thread.
#ifndef ENGINE_JOB_GUEST_HOLDS_H_
#define ENGINE_JOB_GUEST_HOLDS_H_

#include <memory>
#include <utility>
#include <vector>

#include "engine/base/mutex.h"
#include "engine/job/job.h"

namespace tidemark::job {

class GuestHolds {
 public:
  // Takes over what holds guests. False, and they are let go at once, if the time is over.
  bool Add(std::unique_ptr<GuestHold> hold) {
    MutexLock lock(&mutex_);
    if (phase_ == Phase::kOver) return false;
    holds_.push_back(std::move(hold));
    return true;
  }

  // The change that the guests wait for begins: they are held until Release. False if the time is
  // over, and guests may have written since.
  bool BeginCommit() {
    MutexLock lock(&mutex_);
    if (phase_ == Phase::kOver) return false;
    phase_ = Phase::kCommitting;
    return true;
  }

  // The time is over: lets them go, unless the commit has begun. True if it did.
  bool Expire() {
    std::vector<std::unique_ptr<GuestHold>> let_go;
    MutexLock lock(&mutex_);
    if (phase_ != Phase::kHeld || holds_.empty()) return false;
    phase_ = Phase::kOver;
    let_go.swap(holds_);
    return true;
  }

  // They were let go, for the time is over.
  bool is_over() const {
    MutexLock lock(&mutex_);
    return phase_ == Phase::kOver;
  }

  void Release() {
    std::vector<std::unique_ptr<GuestHold>> let_go;
    MutexLock lock(&mutex_);
    phase_ = Phase::kOver;
    let_go.swap(holds_);
  }

 private:
  enum class Phase { kHeld, kCommitting, kOver };

  mutable Mutex mutex_;
  Phase phase_ ABSL_GUARDED_BY(mutex_) = Phase::kHeld;
  std::vector<std::unique_ptr<GuestHold>> holds_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tidemark::job

#endif  // ENGINE_JOB_GUEST_HOLDS_H_
