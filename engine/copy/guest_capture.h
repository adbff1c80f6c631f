// The guest path of a copy: saves what guests are about to overwrite. See copier.h for what it
// promises.
//
// Thread rule: any thread.
#ifndef ENGINE_COPY_GUEST_CAPTURE_H_
#define ENGINE_COPY_GUEST_CAPTURE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/base/clock.h"
#include "engine/base/mutex.h"
#include "engine/base/range.h"
#include "engine/copy/copier.h"
#include "engine/copy/copy_truth.h"
#include "engine/copy/extent_walk.h"
#include "engine/copy/write_out.h"

namespace tidemark::copy {

class GuestCapture {
 public:
  // `truth` and `write_out` outlive this. `wake` is called when the copy is lost.
  GuestCapture(std::shared_ptr<storage::Storage> source, const CopyOptions& options,
               CopyTruth* truth, WriteOut* write_out, Clock* clock, std::function<void()> wake);

  // As BlockCopy's methods of these names.
  void Capture(Range range);
  absl::Status lost() const;
  void Stop();

  // Guests have been here lately: the background should make room.
  bool IsBusy() const;
  // Waits until no guest is inside: true; false after `timeout`.
  bool AwaitEmpty(absl::Duration timeout);

 private:
  void CaptureGuarded(Range clusters, absl::Duration begin);
  void AwaitReaders(Range clusters);
  absl::Status Save(Range claimed);
  absl::Status SaveData(Range range);
  absl::Status SaveZeroes(Range range);
  void GiveUp(absl::Status why);
  bool Reserve(size_t bytes);
  absl::Status TargetStalled() const;

  // Constant after construction.
  const std::shared_ptr<storage::Storage> source_;
  const CopyOptions options_;
  CopyTruth* const truth_;
  WriteOut* const write_out_;
  Clock* const clock_;
  const std::function<void()> wake_;

  // Own synchronisation.
  std::atomic<int64_t> last_capture_ns_;

  mutable Mutex mutex_;
  CondVar left_;
  int inside_count_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status lost_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tidemark::copy

#endif  // ENGINE_COPY_GUEST_CAPTURE_H_
