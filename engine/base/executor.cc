#include "engine/base/executor.h"

#include <pthread.h>
#include <sched.h>

#include <utility>

#include "engine/base/clock.h"
#include "engine/base/cooperation.h"

namespace tidemark {

WorkerPool::WorkerPool(std::string name, int thread_count, Urgency urgency)
    : name_(std::move(name)), urgency_(urgency) {
  threads_.reserve(thread_count);
  for (int i = 0; i < thread_count; ++i) threads_.emplace_back(name_, [this] { Run(); });
}

WorkerPool::~WorkerPool() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
  }
  changed_.SignalAll();
  for (Thread& thread : threads_) thread.Join();
}

void WorkerPool::Post(Task task) {
  {
    MutexLock lock(&mutex_);
    ready_.push_back(std::move(task));
  }
  changed_.Signal();
}

void WorkerPool::PostAfter(absl::Duration delay, Task task) {
  const absl::Duration due = SystemClock().Elapsed() + delay;
  {
    MutexLock lock(&mutex_);
    delayed_.emplace(due, std::move(task));
  }
  // All of them: the one that is woken may be waiting for an earlier task of its own.
  changed_.SignalAll();
}

void WorkerPool::Run() {
  if (urgency_ == Urgency::kBackground && Cooperation::current() == nullptr) {
    const sched_param parameters = {};
    // Where it is forbidden the threads are like all others.
    pthread_setschedparam(pthread_self(), SCHED_BATCH, &parameters);
  }
  mutex_.Lock();
  for (;;) {
    const absl::Duration now = SystemClock().Elapsed();
    while (!delayed_.empty() && delayed_.begin()->first <= now) {
      ready_.push_back(std::move(delayed_.begin()->second));
      delayed_.erase(delayed_.begin());
      if (ready_.size() > 1) changed_.Signal();
    }
    if (!ready_.empty()) {
      Task task = std::move(ready_.front());
      ready_.pop_front();
      mutex_.Unlock();
      task();
      task = nullptr;  // What the task holds is released before the lock is taken again.
      mutex_.Lock();
      continue;
    }
    if (stopping_) break;
    if (delayed_.empty()) {
      changed_.Wait(&mutex_);
    } else {
      changed_.WaitFor(&mutex_, delayed_.begin()->first - now);
    }
  }
  mutex_.Unlock();
}

}  // namespace tidemark
