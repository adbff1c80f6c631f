#include "engine/base/budget.h"

#include <atomic>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace tidemark {
namespace {

TEST(Budget, LendsNoMoreThanItsLimitAndTakesBack) {
  Budget budget(100);
  Budget::Loan first = budget.TryTake(60);
  EXPECT_TRUE(first);
  EXPECT_FALSE(budget.TryTake(41));
  Budget::Loan second = budget.TryTake(40);
  EXPECT_TRUE(second);
  EXPECT_EQ(budget.taken(), 100u);
  first.Release();
  EXPECT_FALSE(first);
  EXPECT_EQ(budget.taken(), 40u);
  first = std::move(second);
  EXPECT_EQ(budget.taken(), 40u);
}

TEST(Budget, WhoIsInLineIsNotOvertaken) {
  Budget budget(100);
  Budget::Loan most = budget.TryTake(90);
  Budget::Place large;
  Budget::Place small;
  EXPECT_FALSE(budget.TakeInTurn(50, &large));
  EXPECT_TRUE(budget.contended());
  // There would be room for these.
  EXPECT_FALSE(budget.TryTake(5));
  EXPECT_FALSE(budget.TakeInTurn(5, &small));
  most.Release();
  EXPECT_FALSE(budget.TakeInTurn(5, &small));
  const Budget::Loan got = budget.TakeInTurn(50, &large);
  EXPECT_TRUE(got);
  EXPECT_TRUE(budget.TakeInTurn(5, &small));
  EXPECT_FALSE(budget.contended());
}

TEST(Budget, WhoLeavesTheLineHoldsNobodyUp) {
  Budget budget(100);
  const Budget::Loan most = budget.TryTake(90);
  Budget::Place second;
  {
    Budget::Place first;
    EXPECT_FALSE(budget.TakeInTurn(50, &first));
    EXPECT_FALSE(budget.TakeInTurn(5, &second));
  }
  EXPECT_TRUE(budget.TakeInTurn(5, &second));
}

TEST(Budget, ARefusalIsToldOnce) {
  Budget budget(100);
  const Budget::Loan most = budget.TryTake(90);
  EXPECT_FALSE(budget.TakeRefusal());
  EXPECT_FALSE(budget.TryTake(20));
  EXPECT_TRUE(budget.TakeRefusal());
  EXPECT_FALSE(budget.TakeRefusal());
}

TEST(Budget, WhatIsMoreThanTheLimitIsLentAlone) {
  Budget budget(100);
  Budget::Loan one = budget.TryTake(1);
  Budget::Place place;
  EXPECT_FALSE(budget.TakeInTurn(1000, &place));
  one.Release();
  const Budget::Loan all = budget.TakeInTurn(1000, &place);
  EXPECT_TRUE(all);
  EXPECT_FALSE(budget.TryTake(1));
}

TEST(Budget, ManyThreadsNeverHoldMoreThanTheLimit) {
  Budget budget(10);
  std::atomic<int> held = 0;
  std::atomic<bool> too_many = false;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, amount = i + 3] {
      for (int round = 0; round < 2000; ++round) {
        Budget::Place place;
        Budget::Loan loan = budget.TakeInTurn(amount, &place);
        while (!loan) {
          std::this_thread::yield();
          loan = budget.TakeInTurn(amount, &place);
        }
        if (held.fetch_add(amount) + amount > 10) too_many = true;
        held.fetch_sub(amount);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_FALSE(too_many);
  EXPECT_EQ(budget.taken(), 0u);
}

}  // namespace
}  // namespace tidemark
