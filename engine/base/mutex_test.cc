#include "engine/base/mutex.h"

#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace tidemark {
namespace {

TEST(Mutex, LetsOneInAtATime) {
  Mutex mutex;
  int count = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int k = 0; k < 10000; ++k) {
        MutexLock lock(&mutex);
        ++count;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(count, 40000);
}

TEST(Mutex, TryLockFailsWhileItIsHeld) {
  Mutex mutex;
  mutex.Lock();
  bool locked = true;
  std::thread([&] { locked = mutex.TryLock(); }).join();
  EXPECT_FALSE(locked);
  mutex.Unlock();
  ASSERT_TRUE(mutex.TryLock());
  mutex.Unlock();
}

TEST(CondVar, WakesOneThatWaits) {
  Mutex mutex;
  CondVar changed;
  bool ready = false;
  bool seen = false;
  std::thread waiter([&] {
    MutexLock lock(&mutex);
    while (!ready) changed.Wait(&mutex);
    seen = true;
  });
  {
    MutexLock lock(&mutex);
    ready = true;
  }
  changed.Signal();
  waiter.join();
  EXPECT_TRUE(seen);
}

TEST(CondVar, WakesAll) {
  Mutex mutex;
  CondVar changed;
  bool ready = false;
  int seen = 0;
  std::vector<std::thread> waiters;
  for (int i = 0; i < 4; ++i) {
    waiters.emplace_back([&] {
      MutexLock lock(&mutex);
      // A bound that cannot be expressed by the clock underneath is waited for all the same.
      while (!ready) changed.WaitFor(&mutex, absl::InfiniteDuration());
      ++seen;
    });
  }
  {
    MutexLock lock(&mutex);
    ready = true;
  }
  changed.SignalAll();
  for (std::thread& waiter : waiters) waiter.join();
  EXPECT_EQ(seen, 4);
}

TEST(CondVar, WaitForGivesUp) {
  Mutex mutex;
  CondVar changed;
  MutexLock lock(&mutex);
  // A wake-up without a reason is allowed, so until it really ran out.
  while (changed.WaitFor(&mutex, absl::Microseconds(1))) {
  }
  // Still held: nobody else gets it.
  bool locked = true;
  std::thread([&] { locked = mutex.TryLock(); }).join();
  EXPECT_FALSE(locked);
}

}  // namespace
}  // namespace tidemark
