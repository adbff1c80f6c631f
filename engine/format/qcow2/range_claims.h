// Stretches of the disk of which one request is changing the mapping: whoever wants to change an
// overlapping one waits until it is done. Any thread.
//
// Not a RangeLock (engine/base/range_lock.h), for two reasons. That one is fair: nobody passes
// those who wait already, so whoever holds a stretch must not ask for another. But a copy places
// stretch after stretch of its target before it finishes the first; behind a guest who waits for
// one that it holds and one that it is about to ask for, both would wait for ever. Here only claims
// are in the way, not those who wait for one; whoever waits may be overtaken. And that one looks at
// all who hold or wait, one by one: hundreds, with a copy's placements. Here claims are disjoint,
// so that one look in their order is enough.
#ifndef ENGINE_FORMAT_QCOW2_RANGE_CLAIMS_H_
#define ENGINE_FORMAT_QCOW2_RANGE_CLAIMS_H_

#include <cstdint>
#include <map>
#include <utility>

#include "engine/base/mutex.h"
#include "engine/base/range.h"

namespace tidemark::qcow2 {

class RangeClaims {
 public:
  // Gives the range up when destroyed.
  class Claim {
   public:
    Claim() = default;
    Claim(RangeClaims* claims, uint64_t begin_bytes) : claims_(claims), begin_bytes_(begin_bytes) {}
    Claim(Claim&& other) noexcept
        : claims_(std::exchange(other.claims_, nullptr)), begin_bytes_(other.begin_bytes_) {}
    Claim& operator=(Claim&& other) noexcept {
      std::swap(claims_, other.claims_);
      std::swap(begin_bytes_, other.begin_bytes_);
      return *this;
    }
    ~Claim() {
      if (claims_ != nullptr) claims_->Release(begin_bytes_);
    }

   private:
    RangeClaims* claims_ = nullptr;
    uint64_t begin_bytes_ = 0;
  };

  // Waits until no claim overlaps `range` (not empty). A thread that holds a claim must not wait
  // for another that overlaps it.
  Claim Acquire(Range range) {
    MutexLock lock(&mutex_);
    while (Overlaps(range)) released_.Wait(&mutex_);
    claims_.emplace(range.offset_bytes, range.end_bytes());
    return Claim(this, range.offset_bytes);
  }

 private:
  bool Overlaps(Range range) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    // Claims are disjoint: only the last that begins before the range's end can reach into it.
    auto after = claims_.lower_bound(range.end_bytes());
    return after != claims_.begin() && (--after)->second > range.offset_bytes;
  }
  void Release(uint64_t begin_bytes) {
    {
      MutexLock lock(&mutex_);
      claims_.erase(begin_bytes);
    }
    released_.SignalAll();
  }

  Mutex mutex_;
  CondVar released_;
  std::map<uint64_t, uint64_t> claims_ ABSL_GUARDED_BY(mutex_);  // Begin to end.
};

}  // namespace tidemark::qcow2

#endif  // ENGINE_FORMAT_QCOW2_RANGE_CLAIMS_H_
