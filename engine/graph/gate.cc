#include "engine/graph/gate.h"

#include "engine/base/check.h"

namespace tidemark::graph {

void Gate::EnterClosed() {
  Leave();
  MutexLock lock(&mutex_);
  while (closers_ > 0) {
    // A hold keeps `state_` above zero, so that it cannot be emptied between this test and the
    // addition: the closer needs the mutex to see it so.
    if (!emptied_ && holds_.load(std::memory_order_acquire) > 0) break;
    changed_.Wait(&mutex_);
  }
  state_.fetch_add(1, std::memory_order_acq_rel);
}

void Gate::LastOneLeft() {
  MutexLock lock(&mutex_);
  changed_.SignalAll();
}

void Gate::Close() {
  MutexLock lock(&mutex_);
  BeginToCloseLocked();
  while (!emptied_ && !IsEmptyNow()) changed_.Wait(&mutex_);
  emptied_ = true;
}

bool Gate::CloseWithin(absl::Duration patience) {
  MutexLock lock(&mutex_);
  BeginToCloseLocked();
  while (!emptied_ && !IsEmptyNow()) {
    if (changed_.WaitFor(&mutex_, patience) || IsEmptyNow()) continue;
    OpenLocked();
    return false;
  }
  emptied_ = true;
  return true;
}

void Gate::BeginToCloseLocked() {
  if (closers_++ == 0) state_.fetch_or(kClosed, std::memory_order_acq_rel);
}

bool Gate::closed() {
  MutexLock lock(&mutex_);
  return emptied_;
}

void Gate::Open() {
  MutexLock lock(&mutex_);
  OpenLocked();
}

void Gate::OpenLocked() {
  CHECK(closers_ > 0);
  if (--closers_ > 0) return;
  emptied_ = false;
  state_.fetch_and(~kClosed, std::memory_order_acq_rel);
  changed_.SignalAll();
}

}  // namespace tidemark::graph
