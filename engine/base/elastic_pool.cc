#include "engine/base/elastic_pool.h"

#include <system_error>
#include <utility>

#include "engine/base/clock.h"

namespace tidemark {

ElasticPool::ElasticPool(std::string name, absl::Duration idle_max)
    : name_(std::move(name)), idle_max_(idle_max) {}

ElasticPool::~ElasticPool() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    changed_.SignalAll();
    while (!threads_.empty()) changed_.Wait(&mutex_);
  }
  JoinEnded();
}

void ElasticPool::Post(Task task) {
  {
    MutexLock lock(&mutex_);
    waiting_.push_back(std::move(task));
    if (idle_count_ < waiting_.size()) StartThread();
    changed_.Signal();
  }
  JoinEnded();
}

int ElasticPool::thread_count() const {
  MutexLock lock(&mutex_);
  return static_cast<int>(threads_.size());
}

void ElasticPool::StartThread() {
  const auto self = threads_.emplace(threads_.end());
  try {
    self->emplace(name_, [this, self] { Run(self); });
  } catch (const std::system_error&) {
    threads_.erase(self);  // No thread to be had: the task waits for one that is at work.
  }
}

void ElasticPool::JoinEnded() {
  Threads ended;
  {
    MutexLock lock(&mutex_);
    ended.swap(ended_);
  }
  for (absl::optional<Thread>& thread : ended) thread->Join();
}

void ElasticPool::Run(Threads::iterator self) {
  mutex_.Lock();
  for (;;) {
    if (!waiting_.empty()) {
      Task task = std::move(waiting_.front());
      waiting_.pop_front();
      mutex_.Unlock();
      task();
      task = nullptr;  // What the task holds is released before the lock is taken again.
      mutex_.Lock();
      continue;
    }
    if (stopping_) break;
    ++idle_count_;
    const absl::Duration until = SystemClock().Elapsed() + idle_max_;
    absl::Duration left = idle_max_;
    while (waiting_.empty() && !stopping_ && left > absl::ZeroDuration()) {
      changed_.WaitFor(&mutex_, left);
      left = until - SystemClock().Elapsed();
    }
    --idle_count_;
    if (waiting_.empty()) break;
  }
  ended_.splice(ended_.end(), threads_, self);
  changed_.SignalAll();
  mutex_.Unlock();
}

}  // namespace tidemark
