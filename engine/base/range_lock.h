// Keeps those who look at a stretch of a disk apart from the one who changes what it means: a
// stretch is shared by any number, or taken by one alone.
//
// Fair: who comes first is served first, as far as they overlap, so that nobody waits for ever. For
// the same reason a thread that holds a stretch must not wait for another one, not even to share
// it: somebody between the two may be waiting for the first.
//
// Thread rule: any thread. A hold may be given up on another thread than it was taken on.
#ifndef ENGINE_BASE_RANGE_LOCK_H_
#define ENGINE_BASE_RANGE_LOCK_H_

#include <functional>
#include <list>
#include <utility>

#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "engine/base/mutex.h"
#include "engine/base/range.h"

namespace tidemark {

class RangeLock {
 private:
  struct Entry;
  using Entries = std::list<Entry>;

 public:
  // Gives the stretch up when destroyed, which must be before the lock is.
  class Hold {
   public:
    Hold() = default;
    Hold(Hold&& other) noexcept
        : lock_(std::exchange(other.lock_, nullptr)), entry_(other.entry_) {}
    Hold& operator=(Hold&& other) noexcept {
      std::swap(lock_, other.lock_);
      std::swap(entry_, other.entry_);
      return *this;
    }
    ~Hold() {
      if (lock_ != nullptr) lock_->Release(entry_);
    }

   private:
    friend class RangeLock;
    Hold(RangeLock* lock, Entries::iterator entry) : lock_(lock), entry_(entry) {}

    RangeLock* lock_ = nullptr;
    Entries::iterator entry_;
  };

  RangeLock() = default;
  RangeLock(const RangeLock&) = delete;
  RangeLock& operator=(const RangeLock&) = delete;

  // Waits until nobody has taken any of `range`, nor waits for it since before. An empty range
  // overlaps nothing.
  Hold Share(Range range);
  // Waits until nobody else has, or has waited before for, any of `range`.
  Hold Take(Range range);
  // As Take, but asks `gives_up` every `interval`, with no lock held: absent once it says true.
  absl::optional<Hold> Take(Range range, absl::Duration interval,
                            const std::function<bool()>& gives_up);

 private:
  struct Entry {
    Range range;
    bool alone = false;
  };

  bool IsInTheWay(Entries::iterator entry) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Release(Entries::iterator entry);

  Mutex mutex_;
  CondVar changed_;
  // Who holds and who waits, in the order in which they came. As long as there are requests in
  // flight, which is short.
  Entries entries_ ABSL_GUARDED_BY(mutex_);
  int waiting_count_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace tidemark

#endif  // ENGINE_BASE_RANGE_LOCK_H_
