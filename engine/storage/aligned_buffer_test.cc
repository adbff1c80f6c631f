#include "engine/storage/aligned_buffer.h"

#include <atomic>
#include <cstring>
#include <deque>
#include <memory>
#include <thread>
#include <vector>

#include "absl/types/optional.h"
#include "engine/base/budget.h"
#include "gtest/gtest.h"

namespace tidemark::storage {
namespace {

TEST(AlignedBuffer, IsAlignedAndAsLongAsAsked) {
  for (const size_t size_bytes : {size_t{0}, size_t{1}, size_t{4096}, size_t{100001}}) {
    const AlignedBuffer buffer(size_bytes);
    EXPECT_EQ(buffer.size(), size_bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % kDirectAlignmentBytes, 0u);
    std::memset(buffer.data(), 1, buffer.size());
  }
}

TEST(AlignedBuffer, MovesItsMemory) {
  AlignedBuffer first(100);
  std::byte* const memory = first.data();
  const AlignedBuffer second = std::move(first);
  EXPECT_EQ(second.data(), memory);
  EXPECT_EQ(second.first(7).size(), 7u);
}

TEST(BufferPool, LendsNoMoreThanItsBound) {
  BufferPool pool(1000, 2);
  absl::optional<BufferPool::Loan> first = pool.TryTake();
  absl::optional<BufferPool::Loan> second = pool.TryTake();
  ASSERT_TRUE(first.has_value() && second.has_value());
  EXPECT_EQ(first->size(), 1000u);
  EXPECT_NE(first->data(), second->data());
  EXPECT_EQ(pool.on_loan(), 2);
  EXPECT_FALSE(pool.TryTake().has_value());
  first = absl::nullopt;
  EXPECT_EQ(pool.on_loan(), 1);
  EXPECT_TRUE(pool.TryTake().has_value());
}

TEST(BufferPool, UsesTheWarmestBufferAgain) {
  BufferPool pool(1000, 2);
  std::byte* memory = nullptr;
  {
    const BufferPool::Loan loan = pool.Take();
    memory = loan.data();
  }
  EXPECT_EQ(pool.Take().data(), memory);
}

TEST(BufferPool, AMovedLoanIsReturnedOnce) {
  BufferPool pool(1000, 2);
  {
    BufferPool::Loan first = pool.Take();
    BufferPool::Loan second = std::move(first);
    BufferPool::Loan third = pool.Take();
    third = std::move(second);
    EXPECT_GE(pool.on_loan(), 1);
  }
  EXPECT_EQ(pool.on_loan(), 0);
}

TEST(BufferPool, WithABudgetOneBufferIsAlwaysToBeHadAndMoreWhileThereIsMemory) {
  Budget budget(2500);
  {
    BufferPool pool(1000, 10, &budget);
    absl::optional<BufferPool::Loan> first = pool.TryTake();
    absl::optional<BufferPool::Loan> second = pool.TryTake();
    EXPECT_TRUE(first.has_value() && second.has_value());
    EXPECT_EQ(budget.taken(), 2000u);
    EXPECT_FALSE(pool.TryTake().has_value());
    BufferPool other(1000, 10, &budget);
    const absl::optional<BufferPool::Loan> of_other = other.TryTake();
    EXPECT_TRUE(of_other.has_value());
    EXPECT_FALSE(other.TryTake().has_value());
    // It lacks some of its part, so what comes back is not kept.
    second = absl::nullopt;
    EXPECT_EQ(budget.taken(), 1000u);
    EXPECT_TRUE(other.TryTake().has_value());
  }
  EXPECT_EQ(budget.taken(), 0u);
}

TEST(BufferPool, WhoeverComesLastGetsAsMuchOfABudgetAsWhoeverCameFirst) {
  Budget budget(12 * 1000);
  std::vector<std::unique_ptr<BufferPool>> pools;
  std::vector<std::deque<BufferPool::Loan>> loans(3);
  for (auto& of_pool : loans) {
    pools.push_back(std::make_unique<BufferPool>(1000, 16, &budget));
    // All that it can have, as a copy that has just begun.
    while (absl::optional<BufferPool::Loan> loan = pools.back()->TryTake()) {
      of_pool.push_back(*std::move(loan));
    }
  }
  EXPECT_EQ(loans[0].size(), 12u);
  for (int round = 0; round < 20; ++round) {
    for (size_t i = 0; i < pools.size(); ++i) {
      loans[i].pop_front();
      while (absl::optional<BufferPool::Loan> loan = pools[i]->TryTake()) {
        loans[i].push_back(*std::move(loan));
      }
    }
  }
  for (const auto& of_pool : loans) EXPECT_EQ(of_pool.size(), 4u);
  EXPECT_EQ(budget.taken(), 12000u);
}

TEST(BufferPool, WhatGuestsWereRefusedIsGivenBack) {
  Budget budget(2000);
  BufferPool pool(1000, 16, &budget);
  BufferPool::Loan kept = pool.Take();
  absl::optional<BufferPool::Loan> loan = pool.TryTake();
  ASSERT_TRUE(loan.has_value());
  EXPECT_FALSE(budget.TryTake(100));
  loan = absl::nullopt;
  EXPECT_TRUE(budget.TryTake(100));
}

TEST(BufferPool, APoolThatLendsNothingKeepsOne) {
  Budget budget(10000);
  BufferPool pool(1000, 16, &budget);
  {
    const BufferPool::Loan first = pool.Take(), second = pool.Take(), third = pool.Take();
    EXPECT_EQ(budget.taken(), 3000u);
  }
  EXPECT_EQ(budget.taken(), 1000u);
}

TEST(BufferPool, TakeWaitsForAReturn) {
  BufferPool pool(64, 3);
  std::atomic<int> taken = 0;
  std::atomic<bool> too_many = false;
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back([&] {
      for (int k = 0; k < 500; ++k) {
        const BufferPool::Loan loan = pool.Take();
        if (++taken > 3) too_many = true;
        loan.data()[0] = std::byte{1};
        --taken;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_FALSE(too_many);
  EXPECT_EQ(pool.on_loan(), 0);
}

}  // namespace
}  // namespace tidemark::storage
