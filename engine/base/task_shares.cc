#include "engine/base/task_shares.h"

#include <algorithm>

#include "engine/base/check.h"

namespace tidemark {

// Guarded by the mutex of the TaskShares.
struct TaskShares::Owner {
  std::deque<Task> tasks;
  int running_count = 0;
  bool is_listed = false;  // In `waiting_`.
};

class TaskShares::OwnerExecutor final : public Executor {
 public:
  explicit OwnerExecutor(TaskShares* shares) : shares_(shares), owner_(std::make_shared<Owner>()) {}

  void Post(Task task) override { shares_->Add(owner_, std::move(task)); }
  void PostAfter(absl::Duration, Task) override { CHECK(false); }

 private:
  TaskShares* const shares_;
  const std::shared_ptr<Owner> owner_;
};

TaskShares::TaskShares(int running_max, int share_max, Run run)
    : running_max_(running_max), share_max_(share_max), run_(std::move(run)) {}

TaskShares::~TaskShares() {
  MutexLock lock(&mutex_);
  CHECK(running_count_ == 0 && waiting_.empty());
}

std::unique_ptr<Executor> TaskShares::MakeOwner() { return std::make_unique<OwnerExecutor>(this); }

int TaskShares::running_count() const {
  MutexLock lock(&mutex_);
  return running_count_;
}

// All of it while three quarters of the threads are free, then less; one at least. So it takes
// half as many owners that hang as there are threads until the last thread is taken.
int TaskShares::ShareLocked() const {
  const int free_count = running_max_ - running_count_;
  if (free_count > running_max_ * 3 / 4) return share_max_;
  if (free_count > running_max_ / 2) return std::max(1, share_max_ / 2);
  return 1;
}

void TaskShares::Add(const std::shared_ptr<Owner>& owner, Task task) {
  std::deque<std::pair<std::shared_ptr<Owner>, Task>> begun;
  {
    MutexLock lock(&mutex_);
    owner->tasks.push_back(std::move(task));
    if (!owner->is_listed) {
      owner->is_listed = true;
      waiting_.push_back(owner);
    }
    TakeLocked(&begun);
  }
  Begin(std::move(begun));
}

void TaskShares::TakeLocked(std::deque<std::pair<std::shared_ptr<Owner>, Task>>* begun) {
  // Each that may is served once in a round, and goes to the end.
  for (size_t passed = 0; passed < waiting_.size() && running_count_ < running_max_;) {
    std::shared_ptr<Owner> owner = std::move(waiting_.front());
    waiting_.pop_front();
    const bool may_run = owner->running_count < ShareLocked();
    if (may_run) {
      passed = 0;
      ++running_count_;
      ++owner->running_count;
      begun->emplace_back(owner, std::move(owner->tasks.front()));
      owner->tasks.pop_front();
    } else {
      ++passed;
    }
    owner->is_listed = !owner->tasks.empty();
    if (owner->is_listed) waiting_.push_back(std::move(owner));
  }
}

void TaskShares::Begin(std::deque<std::pair<std::shared_ptr<Owner>, Task>> begun) {
  for (auto& [owner, task] : begun) {
    run_([this, owner = std::move(owner), task = std::move(task)]() mutable {
      task();
      task = nullptr;  // What the task holds is released before its place is given away.
      std::deque<std::pair<std::shared_ptr<Owner>, Task>> next;
      {
        MutexLock lock(&mutex_);
        --running_count_;
        --owner->running_count;
        TakeLocked(&next);
      }
      Begin(std::move(next));
    });
  }
}

}  // namespace tidemark
