#include "engine/base/elastic_pool.h"

#include <atomic>
#include <thread>

#include "engine/base/notification.h"
#include "gtest/gtest.h"

namespace tidemark {
namespace {

TEST(ElasticPool, TasksThatHangAreInNobodysWay) {
  constexpr int kHungCount = 40;
  ElasticPool pool("elastic", absl::Minutes(1));
  Notification release;
  for (int i = 0; i < kHungCount; ++i) pool.Post([&release] { release.Wait(); });
  Notification ran;
  pool.Post([&ran] { ran.Notify(); });
  ran.Wait();
  EXPECT_GE(pool.thread_count(), kHungCount);
  release.Notify();
}

TEST(ElasticPool, AnIdleThreadIsUsedAgain) {
  ElasticPool pool("elastic", absl::Minutes(60));
  for (int i = 0; i < 100; ++i) {
    Notification ran;
    pool.Post([&ran] { ran.Notify(); });
    ran.Wait();
    // The thread may still be on its way back: then another one is started, now and then.
  }
  EXPECT_LT(pool.thread_count(), 100);
}

TEST(ElasticPool, ThreadsThatNobodyNeedsEnd) {
  ElasticPool pool("elastic", absl::ZeroDuration());
  for (int i = 0; i < 10; ++i) {
    Notification ran;
    pool.Post([&ran] { ran.Notify(); });
    ran.Wait();
    while (pool.thread_count() != 0) std::this_thread::yield();
  }
}

TEST(ElasticPool, TheDestructorWaitsForAllTasks) {
  std::atomic<int> ran = 0;
  {
    ElasticPool pool("elastic", absl::Minutes(1));
    for (int i = 0; i < 50; ++i) {
      pool.Post([&pool, &ran] {
        ++ran;
        pool.Post([&ran] { ++ran; });
      });
    }
  }
  EXPECT_EQ(ran, 100);
}

}  // namespace
}  // namespace tidemark
