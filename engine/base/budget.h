// How much of something the whole process may hold at once: bytes of memory, threads. Who wants
// some takes a loan first. Whoever must have a loan to go on waits in line, so that the large are
// not starved by the small.
//
// Safe from any thread. Nothing here waits or calls back: who is in line asks again from time to
// time. A budget outlives its loans and places.
#ifndef ENGINE_BASE_BUDGET_H_
#define ENGINE_BASE_BUDGET_H_

#include <atomic>
#include <cstdint>
#include <list>
#include <utility>

#include "engine/base/mutex.h"

namespace tidemark {

class Budget {
 public:
  // What was taken, until it is destroyed. Movable; used by one thread at a time.
  class Loan {
   public:
    Loan() = default;
    Loan(Loan&& other) noexcept
        : budget_(std::exchange(other.budget_, nullptr)), amount_(other.amount_) {}
    Loan& operator=(Loan&& other) noexcept {
      std::swap(budget_, other.budget_);
      std::swap(amount_, other.amount_);
      return *this;
    }
    ~Loan() { Release(); }

    // False if nothing was to be had, or it was given back.
    explicit operator bool() const { return budget_ != nullptr; }
    void Release();

   private:
    friend class Budget;
    friend class BudgetShare;
    Loan(Budget* budget, uint64_t amount) : budget_(budget), amount_(amount) {}

    Budget* budget_ = nullptr;
    uint64_t amount_ = 0;
  };

  // A place in line. Left when it is destroyed, or with the loan that it was for. Used by one
  // thread at a time.
  class Place {
   public:
    Place() = default;
    ~Place() { Leave(); }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;
    void Leave();
    bool in_line() const { return budget_ != nullptr; }

   private:
    friend class Budget;
    Budget* budget_ = nullptr;
    std::list<Place*>::iterator at_;
  };

  explicit Budget(uint64_t limit) : limit_(limit) {}
  // CHECKs that nothing is on loan and nobody is in line.
  ~Budget();
  Budget(const Budget&) = delete;
  Budget& operator=(const Budget&) = delete;

  // An empty loan if so much is not left, or if others are in line.
  Loan TryTake(uint64_t amount);

  // The same, but whose turn it is: an empty loan means that `place` is in line now, or still, and
  // that it is worth asking again. What can never be had (more than the limit) is given when all
  // else has been returned, so that nobody waits for ever.
  Loan TakeInTurn(uint64_t amount, Place* place);

  // Whether TryTake has refused somebody since this was last asked: who can do with less than it
  // holds gives something back then.
  bool TakeRefusal() { return refused_.exchange(false, std::memory_order_relaxed); }

  uint64_t limit() const { return limit_; }
  uint64_t taken() const;
  // Somebody is in line: what is held without need should be given back.
  bool contended() const { return contended_.load(std::memory_order_relaxed); }

 private:
  friend class BudgetShare;
  bool IsLeftLocked(uint64_t amount) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void LeaveLocked(Place* place) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Constant after construction.
  const uint64_t limit_;

  // Own synchronisation: that `line_` is not empty, and see TakeRefusal.
  std::atomic<bool> contended_ = false;
  std::atomic<bool> refused_ = false;

  mutable Mutex mutex_;
  uint64_t taken_ ABSL_GUARDED_BY(mutex_) = 0;
  std::list<Place*> line_ ABSL_GUARDED_BY(mutex_);
  // Of the shares in use (budget_share.h), and of those that lack some of their part.
  uint64_t share_count_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t lacking_count_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace tidemark

#endif  // ENGINE_BASE_BUDGET_H_
