// One of those who divide a budget among them: who has something of it in use has a part of it, all
// parts are equal, and what nobody lacks is anybody's. So whoever comes last gets as much as
// whoever came first, once those who hold more than their part have been asked to give back.
//
// Safe from any thread; used by one at a time. Nothing here waits or calls back.
#ifndef ENGINE_BASE_BUDGET_SHARE_H_
#define ENGINE_BASE_BUDGET_SHARE_H_

#include <cstdint>

#include "engine/base/budget.h"

namespace tidemark {

class BudgetShare {
 public:
  // `budget` outlives it.
  explicit BudgetShare(Budget* budget) : budget_(*budget) {}
  // All that it took has been returned (CHECKed).
  ~BudgetShare();
  BudgetShare(const BudgetShare&) = delete;
  BudgetShare& operator=(const BudgetShare&) = delete;

  // Whether it has something to do with what it takes: only then it has a part. No at first.
  void SetInUse(bool in_use);

  // As Budget::TryTake; and empty beyond its part while others lack some of theirs. Who is refused
  // within its part lacks some until it has taken something, or is in use no more.
  Budget::Loan TryTake(uint64_t amount);
  // Of what TryTake gave.
  void Return(Budget::Loan loan);

  // It holds more than its part, and others lack some of theirs: it is to return what it can.
  bool OwesSome() const;

 private:
  uint64_t PartLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(budget_.mutex_);
  bool AnotherLacksLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(budget_.mutex_);
  void SetLacksLocked(bool lacks) ABSL_EXCLUSIVE_LOCKS_REQUIRED(budget_.mutex_);

  Budget& budget_;
  uint64_t taken_ ABSL_GUARDED_BY(budget_.mutex_) = 0;
  bool in_use_ ABSL_GUARDED_BY(budget_.mutex_) = false;
  bool lacks_ ABSL_GUARDED_BY(budget_.mutex_) = false;
};

}  // namespace tidemark

#endif  // ENGINE_BASE_BUDGET_SHARE_H_
