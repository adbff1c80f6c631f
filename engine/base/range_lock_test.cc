#include "engine/base/range_lock.h"

#include <array>
#include <atomic>
#include <memory>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "engine/base/notification.h"
#include "gtest/gtest.h"

namespace tidemark {
namespace {

absl::optional<RangeLock::Hold> TryTake(RangeLock* lock, Range range) {
  return lock->Take(range, absl::Milliseconds(1), [] { return true; });
}

TEST(RangeLock, AnyNumberMayShareAStretch) {
  RangeLock lock;
  const RangeLock::Hold first = lock.Share({0, 100});
  const RangeLock::Hold second = lock.Share({50, 100});
  EXPECT_FALSE(TryTake(&lock, {99, 1}).has_value());
  EXPECT_FALSE(TryTake(&lock, {149, 1}).has_value());
  EXPECT_TRUE(TryTake(&lock, {150, 1}).has_value());
}

TEST(RangeLock, WhatIsTakenIsTakenByOneAlone) {
  RangeLock lock;
  {
    const RangeLock::Hold held = lock.Take({100, 100});
    EXPECT_FALSE(TryTake(&lock, {0, 101}).has_value());
    EXPECT_FALSE(TryTake(&lock, {199, 10}).has_value());
    EXPECT_TRUE(TryTake(&lock, {0, 100}).has_value());
    EXPECT_TRUE(TryTake(&lock, {200, 100}).has_value());
  }
  EXPECT_TRUE(TryTake(&lock, {100, 100}).has_value());
}

TEST(RangeLock, AnEmptyStretchIsInNobodysWay) {
  RangeLock lock;
  const RangeLock::Hold held = lock.Take({100, 0});
  EXPECT_TRUE(TryTake(&lock, {0, 200}).has_value());
}

TEST(RangeLock, AHoldCanBeMovedAndIsGivenUpOnce) {
  RangeLock lock;
  RangeLock::Hold held = lock.Take({0, 10});
  RangeLock::Hold moved = std::move(held);
  held = RangeLock::Hold();
  EXPECT_FALSE(TryTake(&lock, {0, 10}).has_value());
  moved = RangeLock::Hold();
  EXPECT_TRUE(TryTake(&lock, {0, 10}).has_value());
}

TEST(RangeLock, ReadersWhoComeLaterDoNotPassAWriterWhoWaits) {
  RangeLock lock;
  auto first = std::make_unique<RangeLock::Hold>(lock.Share({0, 100}));
  std::atomic<bool> wrote = false;
  Notification waits;
  std::thread writer([&] {
    const auto hold = lock.Take({50, 10}, absl::Milliseconds(1), [&waits, told = false]() mutable {
      if (!std::exchange(told, true)) waits.Notify();
      return false;
    });
    wrote = true;
  });
  waits.Wait();
  std::atomic<bool> saw_write = false;
  std::thread reader([&] {
    const RangeLock::Hold hold = lock.Share({55, 1});
    saw_write = wrote.load();
  });
  // Elsewhere there is no need to wait.
  { const RangeLock::Hold other = lock.Share({0, 50}); }
  first = nullptr;
  reader.join();
  writer.join();
  EXPECT_TRUE(saw_write);
}

TEST(RangeLock, WhoGivesUpIsInNobodysWayAnyMore) {
  RangeLock lock;
  const RangeLock::Hold shared = lock.Share({0, 10});
  Notification waits;
  Notification give_up;
  std::thread writer([&] {
    bool told = false;
    const auto hold = lock.Take({0, 10}, absl::Milliseconds(1), [&] {
      if (!std::exchange(told, true)) waits.Notify();
      return give_up.WaitFor(absl::ZeroDuration());
    });
    EXPECT_FALSE(hold.has_value());
  });
  waits.Wait();
  std::thread reader([&] { const RangeLock::Hold hold = lock.Share({0, 10}); });
  give_up.Notify();
  reader.join();
  writer.join();
}

TEST(RangeLock, ManyThreadsNeverMeetWhereOneIsAlone) {
  constexpr int kCells = 64;
  RangeLock lock;
  std::array<std::atomic<int>, kCells> readers{};
  std::array<std::atomic<int>, kCells> writers{};
  std::atomic<int> clashes = 0;
  std::vector<std::thread> threads;
  for (int seed = 0; seed < 6; ++seed) {
    threads.emplace_back([&, seed] {
      std::mt19937_64 random(seed);
      for (int i = 0; i < 3000; ++i) {
        const uint64_t begin = random() % kCells;
        const Range range{begin, 1 + random() % std::min<uint64_t>(8, kCells - begin)};
        const bool alone = random() % 3 == 0;
        const RangeLock::Hold hold = alone ? lock.Take(range) : lock.Share(range);
        auto& counts = alone ? writers : readers;
        for (uint64_t at = range.offset_bytes; at < range.end_bytes(); ++at) {
          const int others = counts[at].fetch_add(1);
          if (writers[at].load() > (alone ? 1 : 0) || (alone && others > 0)) ++clashes;
          if (alone && readers[at].load() > 0) ++clashes;
        }
        if (i % 16 == 0) std::this_thread::yield();
        for (uint64_t at = range.offset_bytes; at < range.end_bytes(); ++at) --counts[at];
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(clashes, 0);
}

}  // namespace
}  // namespace tidemark
