// Counts requests in flight, and can be closed: then new ones wait, and the one who closes waits
// until none is left.
//
// Thread rule: Enter and Leave from workers, for every request (two atomic additions when nobody
// closes); Close, which waits, from a worker; the rest from any thread.
#ifndef ENGINE_GRAPH_GATE_H_
#define ENGINE_GRAPH_GATE_H_

#include <atomic>
#include <cstdint>

#include "absl/time/time.h"
#include "engine/base/mutex.h"

namespace tidemark::graph {

class Gate {
 public:
  Gate() = default;
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;

  // Waits while the gate is closed. But while somebody is inside with a hold, the gate only asks to
  // be left (`closing`): whoever has the hold may have to pass once more before it can end it.
  void Enter() {
    if ((state_.fetch_add(1, std::memory_order_acq_rel) & kClosed) != 0) [[unlikely]] {
      EnterClosed();
    }
  }
  void Leave() {
    if (state_.fetch_sub(1, std::memory_order_acq_rel) == (kClosed | 1)) [[unlikely]] {
      LastOneLeft();
    }
  }

  // Turns an entrance into one that outlasts the call it was made for. EndHold leaves.
  void BeginHold() { holds_.fetch_add(1, std::memory_order_acq_rel); }
  void EndHold() {
    holds_.fetch_sub(1, std::memory_order_acq_rel);
    Leave();
  }

  // Returns when nobody is inside and nobody can enter. Closings are counted: as many Opens open
  // it.
  void Close();
  // The same, but gives up when nothing has happened for `patience`: false, and then it is as if it
  // had not been closed.
  bool CloseWithin(absl::Duration patience);
  void Open();

  // Somebody closes or has closed.
  bool closing() const { return (state_.load(std::memory_order_acquire) & kClosed) != 0; }
  // A Close has returned and no Open has followed.
  bool closed();
  // Nobody is inside at this moment. Whoever enters later sees all that was written before this
  // call.
  bool IsEmptyNow() { return (state_.fetch_add(0, std::memory_order_acq_rel) & ~kClosed) == 0; }

 private:
  static constexpr uint64_t kClosed = uint64_t{1} << 63;

  void EnterClosed();
  void LastOneLeft();
  void BeginToCloseLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OpenLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // How many are inside, and kClosed. The flag changes only with `mutex_` held.
  std::atomic<uint64_t> state_{0};
  std::atomic<uint64_t> holds_{0};

  Mutex mutex_;
  CondVar changed_;
  int closers_ ABSL_GUARDED_BY(mutex_) = 0;
  // A closer has found it empty.
  bool emptied_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace tidemark::graph

#endif  // ENGINE_GRAPH_GATE_H_
