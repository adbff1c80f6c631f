// Tasks that wait until a test runs them, one at a time, on the test's own thread: with one
// ManualClock and several of these, every interleaving of engine thread, workers and graph-command
// workers can be played step by step. One thread only.
#ifndef ENGINE_BASE_MANUAL_EXECUTOR_H_
#define ENGINE_BASE_MANUAL_EXECUTOR_H_

#include <deque>
#include <map>
#include <utility>

#include "absl/time/time.h"
#include "engine/base/clock.h"
#include "engine/base/executor.h"

namespace tidemark {

class ManualExecutor final : public Executor {
 public:
  explicit ManualExecutor(ManualClock* clock) : clock_(clock) {}

  void Post(Task task) override { ready_.push_back(std::move(task)); }
  void PostAfter(absl::Duration delay, Task task) override {
    delayed_.emplace(clock_->Elapsed() + delay, std::move(task));
  }

  // Runs the oldest task that may run. False if there is none.
  bool RunOne() {
    while (!delayed_.empty() && delayed_.begin()->first <= clock_->Elapsed()) {
      ready_.push_back(std::move(delayed_.begin()->second));
      delayed_.erase(delayed_.begin());
    }
    if (ready_.empty()) return false;
    Task task = std::move(ready_.front());
    ready_.pop_front();
    task();
    return true;
  }

  // When the next delayed task is due; InfiniteDuration if there is none.
  absl::Duration NextDue() const {
    return delayed_.empty() ? absl::InfiniteDuration() : delayed_.begin()->first;
  }

 private:
  ManualClock* const clock_;
  std::deque<Task> ready_;
  std::multimap<absl::Duration, Task> delayed_;
};

}  // namespace tidemark

#endif  // ENGINE_BASE_MANUAL_EXECUTOR_H_
