#include "engine/base/budget_share.h"

#include <algorithm>

#include "engine/base/check.h"

namespace tidemark {

BudgetShare::~BudgetShare() {
  SetInUse(false);
  MutexLock lock(&budget_.mutex_);
  CHECK(taken_ == 0);
}

void BudgetShare::SetInUse(bool in_use) {
  MutexLock lock(&budget_.mutex_);
  if (in_use == in_use_) return;
  in_use_ = in_use;
  budget_.share_count_ += in_use ? 1 : -1;
  if (!in_use) SetLacksLocked(false);
}

uint64_t BudgetShare::PartLocked() const {
  return budget_.limit_ / std::max<uint64_t>(1, budget_.share_count_);
}

bool BudgetShare::AnotherLacksLocked() const { return budget_.lacking_count_ > (lacks_ ? 1 : 0); }

void BudgetShare::SetLacksLocked(bool lacks) {
  if (lacks == lacks_) return;
  lacks_ = lacks;
  budget_.lacking_count_ += lacks ? 1 : -1;
}

Budget::Loan BudgetShare::TryTake(uint64_t amount) {
  MutexLock lock(&budget_.mutex_);
  const bool is_within = taken_ + amount <= PartLocked();
  const bool is_left = budget_.line_.empty() && budget_.IsLeftLocked(amount);
  if (!is_left || (!is_within && AnotherLacksLocked())) {
    SetLacksLocked(is_within && in_use_);
    return Budget::Loan();
  }
  SetLacksLocked(false);
  taken_ += amount;
  budget_.taken_ += amount;
  return Budget::Loan(&budget_, amount);
}

void BudgetShare::Return(Budget::Loan loan) {
  if (!loan) return;
  {
    MutexLock lock(&budget_.mutex_);
    taken_ -= loan.amount_;
  }
  loan.Release();
}

bool BudgetShare::OwesSome() const {
  MutexLock lock(&budget_.mutex_);
  return taken_ > PartLocked() && AnotherLacksLocked();
}

}  // namespace tidemark
