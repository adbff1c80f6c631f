// A few threads that block in pread and pwrite, or in the calls of a target.
#include "engine/storage/thread_queue.h"

#include <algorithm>
#include <deque>
#include <system_error>
#include <utility>

#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/mutex.h"
#include "engine/base/thread.h"
#include "engine/storage/bell.h"
#include "engine/storage/io_request.h"
#include "engine/storage/limits.h"

namespace tidemark::storage {
namespace {

class ThreadQueue final : public IoQueue {
 public:
  ThreadQueue(int depth, std::function<void()> on_completion)
      : depth_(depth), on_completion_(std::move(on_completion)) {
    try {
      for (int i = 0; i < std::min(depth, kQueueThreadCountMax); ++i) {
        threads_.emplace_back("td-queue", [this] { Run(); });
      }
    } catch (const std::system_error&) {
      // Those that are there do; without any, whoever submits does it.
    }
  }

  ~ThreadQueue() override {
    {
      MutexLock lock(&mutex_);
      stopping_ = true;
      submitted_.SignalAll();
    }
    for (Thread& thread : threads_) thread.Join();
  }

  void Submit(const Request& request) override {
    CHECK(in_flight_ < depth_);
    ++in_flight_;
    if (threads_.empty()) {
      absl::Status status = MoveByCalls(request);
      MutexLock lock(&mutex_);
      finished_.push_back({request.cookie, std::move(status)});
      completed_.Ring();
      return;
    }
    MutexLock lock(&mutex_);
    waiting_.push_back(request);
    submitted_.Signal();
  }

  void Reap(absl::Duration timeout, std::vector<Completion>* completions) override {
    const absl::Duration deadline = SystemClock().Elapsed() + timeout;
    // First, so that what completes from here on rings again.
    completed_.Hear();
    MutexLock lock(&mutex_);
    while (finished_.empty() && !woken_) {
      const absl::Duration left = deadline - SystemClock().Elapsed();
      if (left <= absl::ZeroDuration()) return;
      changed_.WaitFor(&mutex_, left);
    }
    woken_ = false;
    in_flight_ -= static_cast<int>(finished_.size());
    completions->insert(completions->end(), finished_.begin(), finished_.end());
    finished_.clear();
  }

  void Wake() override {
    MutexLock lock(&mutex_);
    woken_ = true;
    changed_.SignalAll();
    completed_.Ring();
  }

  int completion_fd() override {
    MutexLock lock(&mutex_);
    return completed_.Open() ? completed_.fd() : -1;
  }

  int in_flight() const override { return in_flight_; }
  int depth() const override { return depth_; }

 private:
  void Run() {
    mutex_.Lock();
    for (;;) {
      while (waiting_.empty() && !stopping_) submitted_.Wait(&mutex_);
      if (waiting_.empty()) break;
      const Request request = waiting_.front();
      waiting_.pop_front();
      mutex_.Unlock();
      absl::Status status = MoveByCalls(request);
      mutex_.Lock();
      finished_.push_back({request.cookie, std::move(status)});
      changed_.SignalAll();
      completed_.Ring();
      if (on_completion_ == nullptr) continue;
      mutex_.Unlock();
      on_completion_();
      mutex_.Lock();
    }
    mutex_.Unlock();
  }

  // Constant after construction.
  const int depth_;
  const std::function<void()> on_completion_;

  // Of the owner's thread.
  int in_flight_ = 0;
  std::vector<Thread> threads_;

  Bell completed_;  // Open if somebody listens; opened before there is anything to hear.

  Mutex mutex_;
  CondVar submitted_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool woken_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<Request> waiting_ ABSL_GUARDED_BY(mutex_);
  std::vector<Completion> finished_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

std::unique_ptr<IoQueue> MakeThreadQueue(int depth, std::function<void()> on_completion) {
  CHECK(depth > 0 && depth <= kQueueDepthMax);
  return std::make_unique<ThreadQueue>(depth, std::move(on_completion));
}

std::unique_ptr<IoQueue> MakeThreadIoQueue(int depth) { return MakeThreadQueue(depth, nullptr); }

}  // namespace tidemark::storage
