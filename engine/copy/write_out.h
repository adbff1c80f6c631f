// Old data that guests have overwritten, on its way to the target: a bounded buffer, and the task
// that empties it.
//
// Nothing here is ever dropped but by Stop: the source no longer has it. If the target fails, the
// buffer keeps what it has, and nothing more is tried until Retry.
//
// Thread rule: any thread. Callbacks come from the task or from Stop, with no lock held.
#ifndef ENGINE_COPY_WRITE_OUT_H_
#define ENGINE_COPY_WRITE_OUT_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/optional.h"
#include "engine/base/budget.h"
#include "engine/base/clock.h"
#include "engine/base/executor.h"
#include "engine/base/mutex.h"
#include "engine/base/range.h"
#include "engine/copy/copier.h"
#include "engine/copy/copy_lane.h"
#include "engine/storage/aligned_buffer.h"
#include "engine/storage/storage.h"

namespace tidemark::copy {

class WriteOut : public std::enable_shared_from_this<WriteOut> {
 public:
  struct Callbacks {
    std::function<void(const Batch&)> written;
    std::function<void(const Batch&)> dropped;
    // The target has failed; TakeError tells how.
    std::function<void()> failed;
  };
  WriteOut(std::shared_ptr<storage::Storage> target, const CopyOptions& options,
           const CopyWorkers& workers, Clock* clock, Callbacks callbacks);

  // Makes room for `bytes` (at most kCaptureBytesMax), waiting for it while the target takes what
  // is there. False if it was stopped, or IsStalled.
  bool Reserve(size_t bytes);
  // A batch for one stretch of data, with memory for it. The room must have been reserved.
  std::unique_ptr<Batch> MakeBatch(Range range);
  // `batch` fills `reserved_bytes` of what was reserved.
  void Add(std::unique_ptr<Batch> batch, size_t reserved_bytes);
  // Gives back what was reserved and not used.
  void Unreserve(size_t bytes);
  // As Reserve waits: true if nothing was written for kGuestStallMax (kGuestStallFailedMax while
  // the target fails), counted from `since`.
  bool IsStalled(absl::Duration since) const;

  // The error that keeps it from writing, once; absent if there is none, or it has been taken.
  absl::optional<absl::Status> TakeError();
  // What has failed, or is on its way and going to fail, is not told but tried again.
  void ForgetError();
  // Tries again what failed and was told or forgotten.
  void Retry();

  // Drops everything that has not reached the target, now or when the task is through with what it
  // has begun.
  void Stop();

  // Waits until everything was written, dropped or has failed: true; false after `timeout`.
  bool AwaitIdle(absl::Duration timeout);
  bool has_error() const;

 private:
  struct Saved {
    std::unique_ptr<Batch> batch;
    size_t reserved_bytes = 0;
    // What `try_` was when it was begun.
    uint64_t begun_in_try = 0;
  };

  // What was borrowed for some of what is reserved.
  struct Borrowed {
    size_t bytes = 0;
    Budget::Loan loan;
  };

  // False if there is no room, here or in the budget.
  bool TryReserveLocked(size_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void UnreserveLocked(size_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void KickLocked(bool* run) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Launch();
  void Run();
  void RunTurn();
  // What the task may begin now. Absent for nothing.
  absl::optional<Saved> TakeNext(size_t begun_bytes);
  void HandleEnded(std::vector<Batch*>* ended);
  bool EndTask();
  void DropAll();

  // Constant after construction.
  const std::shared_ptr<storage::Storage> target_;
  Executor* const workers_;  // Null: the task runs inside of Add and Retry.
  Clock* const clock_;
  Budget* const memory_;  // Null: no bound but its own.
  const Callbacks callbacks_;

  // For captures of one cluster, which most are. Larger ones, and many at once, have their own
  // memory.
  storage::BufferPool clusters_;

  // The task's own: there is one at a time.
  CopyLane lane_;
  std::vector<Saved> begun_;
  size_t begun_bytes_ = 0;

  mutable Mutex mutex_;
  CondVar changed_;
  std::deque<Saved> waiting_ ABSL_GUARDED_BY(mutex_);
  size_t reserved_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<Borrowed> borrowed_ ABSL_GUARDED_BY(mutex_);
  size_t borrowed_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool running_ ABSL_GUARDED_BY(mutex_) = false;
  // The task is over but for telling that it failed.
  bool telling_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status error_ ABSL_GUARDED_BY(mutex_);
  bool error_taken_ ABSL_GUARDED_BY(mutex_) = false;
  // Counts how often errors were forgotten.
  uint64_t try_ ABSL_GUARDED_BY(mutex_) = 0;
  // When something was written last.
  absl::Duration written_at_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tidemark::copy

#endif  // ENGINE_COPY_WRITE_OUT_H_
