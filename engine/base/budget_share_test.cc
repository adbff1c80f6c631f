#include "engine/base/budget_share.h"

#include <utility>

#include "gtest/gtest.h"

namespace tidemark {
namespace {

TEST(BudgetShare, WhatNobodyLacksIsAnybodys) {
  Budget budget(100);
  BudgetShare one(&budget), other(&budget);
  one.SetInUse(true);
  other.SetInUse(true);
  Budget::Loan most = one.TryTake(90);
  EXPECT_TRUE(most);
  EXPECT_FALSE(one.OwesSome());
  one.Return(std::move(most));
  EXPECT_EQ(budget.taken(), 0u);
}

TEST(BudgetShare, WhoIsRefusedWithinItsPartIsOwedByWhoHoldsMore) {
  Budget budget(100);
  BudgetShare rich(&budget), poor(&budget);
  rich.SetInUse(true);
  poor.SetInUse(true);
  Budget::Loan first = rich.TryTake(50), second = rich.TryTake(30), third = rich.TryTake(20);
  ASSERT_TRUE(first && second && third);
  EXPECT_FALSE(poor.TryTake(40));
  EXPECT_TRUE(rich.OwesSome());
  EXPECT_FALSE(poor.OwesSome());
  rich.Return(std::move(third));
  // It is for whom it was returned.
  EXPECT_FALSE(rich.TryTake(20));
  rich.Return(std::move(second));
  Budget::Loan part = poor.TryTake(40);
  EXPECT_TRUE(part);
  EXPECT_FALSE(rich.OwesSome());
  rich.Return(std::move(first));
  poor.Return(std::move(part));
}

TEST(BudgetShare, WhoAsksBeyondItsPartLacksNothing) {
  Budget budget(100);
  BudgetShare one(&budget), other(&budget);
  one.SetInUse(true);
  other.SetInUse(true);
  Budget::Loan of_one = one.TryTake(60), of_other = other.TryTake(40);
  EXPECT_FALSE(other.TryTake(20));
  EXPECT_FALSE(one.OwesSome());
  one.Return(std::move(of_one));
  other.Return(std::move(of_other));
}

TEST(BudgetShare, WhoHasNothingToDoHasNoPart) {
  Budget budget(100);
  BudgetShare one(&budget), idle(&budget);
  one.SetInUse(true);
  idle.SetInUse(true);
  Budget::Loan most = one.TryTake(80);
  EXPECT_FALSE(idle.TryTake(40));
  EXPECT_TRUE(one.OwesSome());
  idle.SetInUse(false);
  EXPECT_FALSE(one.OwesSome());
  one.Return(std::move(most));
}

}  // namespace
}  // namespace tidemark
