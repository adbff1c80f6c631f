#include "engine/base/executor.h"

#include <atomic>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "engine/base/clock.h"
#include "engine/base/mutex.h"
#include "gtest/gtest.h"

namespace tidemark {
namespace {

// Opens once, for all who wait.
class Gate {
 public:
  void Open() {
    MutexLock lock(&mutex_);
    open_ = true;
    changed_.SignalAll();
  }
  void Wait() {
    MutexLock lock(&mutex_);
    while (!open_) changed_.Wait(&mutex_);
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  bool open_ = false;
};

TEST(SerialExecutor, RunsTasksInTheOrderPosted) {
  std::vector<int> order;
  {
    SerialExecutor executor("serial");
    for (int i = 0; i < 100; ++i) {
      executor.Post([&order, i] { order.push_back(i); });
    }
  }
  ASSERT_EQ(order.size(), 100u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(order[i], i);
}

TEST(SerialExecutor, NeverRunsATaskWithinPost) {
  SerialExecutor executor("serial");
  Gate done;
  bool returned = false;
  bool nested_ran_early = false;
  executor.Post([&] {
    executor.Post([&] {
      nested_ran_early = !returned;
      done.Open();
    });
    returned = true;
  });
  done.Wait();
  EXPECT_FALSE(nested_ran_early);
}

TEST(SerialExecutor, KeepsToOneThread) {
  std::set<std::thread::id> ids;
  {
    SerialExecutor executor("serial");
    for (int i = 0; i < 10; ++i) {
      executor.Post([&ids] { ids.insert(std::this_thread::get_id()); });
    }
  }
  EXPECT_EQ(ids.size(), 1u);
  EXPECT_EQ(ids.count(std::this_thread::get_id()), 0u);
}

TEST(WorkerPool, RunsAsManyTasksAtOnceAsItHasThreads) {
  constexpr int kThreads = 4;
  WorkerPool pool("pool", kThreads);
  Mutex mutex;
  CondVar changed;
  int inside = 0;
  Gate all_done;
  std::atomic<int> left = kThreads;
  for (int i = 0; i < kThreads; ++i) {
    pool.Post([&] {
      {
        // Passes only when all four are inside.
        MutexLock lock(&mutex);
        ++inside;
        changed.SignalAll();
        while (inside < kThreads) changed.Wait(&mutex);
      }
      if (--left == 0) all_done.Open();
    });
  }
  all_done.Wait();
  EXPECT_EQ(inside, kThreads);
}

TEST(WorkerPool, DestructorRunsWhatWasPosted) {
  std::atomic<int> count = 0;
  {
    WorkerPool pool("pool", 2);
    for (int i = 0; i < 50; ++i) {
      pool.Post([&count] { ++count; });
    }
  }
  EXPECT_EQ(count, 50);
}

TEST(WorkerPool, DestructorDropsWhatStillWaitsForItsDelay) {
  bool ran = false;
  const auto held = std::make_shared<int>(1);
  {
    WorkerPool pool("pool", 2);
    pool.PostAfter(absl::Hours(1), [&ran, held] { ran = true; });
    EXPECT_EQ(held.use_count(), 2);
  }
  EXPECT_FALSE(ran);
  EXPECT_EQ(held.use_count(), 1);
}

TEST(WorkerPool, RunsDelayedTasksNoSoonerThanDue) {
  SerialExecutor executor("serial");
  Gate done;
  const absl::Duration posted = SystemClock().Elapsed();
  absl::Duration ran;
  executor.PostAfter(absl::Milliseconds(5), [&] {
    ran = SystemClock().Elapsed();
    done.Open();
  });
  done.Wait();
  EXPECT_GE(ran - posted, absl::Milliseconds(5));
}

TEST(WorkerPool, ALongDelayDoesNotHoldUpAShorterOne) {
  Gate done;
  bool long_ran = false;
  {
    SerialExecutor executor("serial");
    executor.PostAfter(absl::Hours(1), [&long_ran] { long_ran = true; });
    executor.PostAfter(absl::Milliseconds(1), [&done] { done.Open(); });
    done.Wait();
  }
  EXPECT_FALSE(long_ran);
}

TEST(WorkerPool, ReleasesWhatATaskHeldWhenItHasRun) {
  WorkerPool pool("pool", 1);
  Gate done;
  const auto held = std::make_shared<int>(1);
  pool.Post([held] {});
  pool.Post([&done] { done.Open(); });
  done.Wait();
  EXPECT_EQ(held.use_count(), 1);
}

}  // namespace
}  // namespace tidemark
