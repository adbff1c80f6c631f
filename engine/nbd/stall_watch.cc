#include "engine/nbd/stall_watch.h"

#include "engine/base/check.h"
#include "engine/nbd/limits.h"

namespace tidemark::nbd {

StallWatch::StallWatch() : thread_([this] { Run(); }) {}

StallWatch::~StallWatch() {
  {
    MutexLock lock(&mutex_);
    CHECK(watched_.empty());
    stopping_ = true;
  }
  changed_.SignalAll();
  thread_.join();
}

void StallWatch::Add(Watched* watched) {
  MutexLock lock(&mutex_);
  watched_.insert(watched);
}

void StallWatch::Remove(Watched* watched) {
  MutexLock lock(&mutex_);
  watched_.erase(watched);
}

void StallWatch::Run() {
  MutexLock lock(&mutex_);
  int idle_rounds = 0;
  while (!stopping_) {
    if (CheckAll()) {
      idle_rounds = 0;
    } else if (++idle_rounds >= kIdleRoundsBeforeSleep) {
      asleep_.store(true);
      if (!CheckAll()) {
        while (asleep_.load() && !stopping_) changed_.Wait(&mutex_);
      }
      asleep_.store(false);
      idle_rounds = 0;
    }
    if (!stopping_) changed_.WaitFor(&mutex_, kStallCheckInterval);
  }
}

bool StallWatch::CheckAll() {
  bool anything_runs = false;
  for (Watched* watched : watched_) anything_runs |= watched->CheckForStall();
  return anything_runs;
}

void StallWatch::WakeUp() {
  {
    MutexLock lock(&mutex_);
    asleep_.store(false);
  }
  changed_.SignalAll();
}

}  // namespace tidemark::nbd
