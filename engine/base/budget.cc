#include "engine/base/budget.h"

#include "engine/base/check.h"

namespace tidemark {

void Budget::Loan::Release() {
  if (budget_ == nullptr) return;
  MutexLock lock(&budget_->mutex_);
  budget_->taken_ -= amount_;
  budget_ = nullptr;
}

void Budget::Place::Leave() {
  if (budget_ == nullptr) return;
  Budget* const budget = budget_;
  MutexLock lock(&budget->mutex_);
  budget->LeaveLocked(this);
}

Budget::~Budget() {
  MutexLock lock(&mutex_);
  CHECK(taken_ == 0 && line_.empty());
}

bool Budget::IsLeftLocked(uint64_t amount) const {
  if (amount > limit_) return taken_ == 0;
  return taken_ <= limit_ && amount <= limit_ - taken_;
}

void Budget::LeaveLocked(Place* place) {
  line_.erase(place->at_);
  place->budget_ = nullptr;
  contended_.store(!line_.empty(), std::memory_order_relaxed);
}

Budget::Loan Budget::TryTake(uint64_t amount) {
  MutexLock lock(&mutex_);
  if (!line_.empty() || !IsLeftLocked(amount)) {
    refused_.store(true, std::memory_order_relaxed);
    return Loan();
  }
  taken_ += amount;
  return Loan(this, amount);
}

Budget::Loan Budget::TakeInTurn(uint64_t amount, Place* place) {
  MutexLock lock(&mutex_);
  const bool is_first = line_.empty() || line_.front() == place;
  if (is_first && IsLeftLocked(amount)) {
    if (place->budget_ != nullptr) LeaveLocked(place);
    taken_ += amount;
    return Loan(this, amount);
  }
  if (place->budget_ == nullptr) {
    place->budget_ = this;
    place->at_ = line_.insert(line_.end(), place);
    contended_.store(true, std::memory_order_relaxed);
  }
  return Loan();
}

uint64_t Budget::taken() const {
  MutexLock lock(&mutex_);
  return taken_;
}

}  // namespace tidemark
