// Makes a target the same as a source that guests go on changing, and keeps it so: what mirrors are
// made of.
//
// Changes go behind the guests' backs (mirror_claims.h): the bitmap records them, and the job
// copies them later, until nothing is left. A guest that always leaves some to copy would keep it
// from ever being ready. So when all that was left has been copied, and more than half as much is
// left again, guests' changes go through to the target from then on, until it is ready; also once
// the mirror is to end, and always if the user has asked for it (write-blocking). The guest's
// answer then waits for its own write to the target, never longer than kGuestStallMax, and never
// fails because of the target: what did not reach it stays to be copied by the job, whose error
// policy decides.
//
// The disks are ports of edges that are not gated (graph/port.h).
//
// Thread rule: Change from any number of threads that may block. Step, Drain and CatchUp from one
// worker at a time. The rest from any thread.
#ifndef ENGINE_COPY_MIRROR_COPY_H_
#define ENGINE_COPY_MIRROR_COPY_H_

#include <atomic>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "engine/base/clock.h"
#include "engine/base/mutex.h"
#include "engine/bitmap/dirty_bitmap.h"
#include "engine/copy/background_copy.h"
#include "engine/copy/copier.h"
#include "engine/copy/mirror_claims.h"
#include "engine/copy/mirror_filter.h"
#include "engine/copy/step.h"
#include "engine/storage/storage.h"

namespace tidemark::copy {

class MirrorCopy final : public GuestMirror, public std::enable_shared_from_this<MirrorCopy> {
 public:
  // `dirty` says what is to be copied, and records what changes at the source from now on; its
  // granularity is the copy unit. Of `options` what concerns guests is not used. The two disks have
  // the same size. Does no I/O.
  static std::shared_ptr<MirrorCopy> Make(std::shared_ptr<storage::Storage> source,
                                          std::shared_ptr<storage::Storage> target,
                                          std::shared_ptr<bitmap::DirtyBitmap> dirty,
                                          const CopyOptions& options, const CopyWorkers& workers,
                                          Clock* clock);
  ~MirrorCopy() override;

  absl::Status Change(const GuestChange& change,
                      absl::FunctionRef<absl::Status()> on_source) override;

  // Tells `ready` once, and kDone only after End.
  absl::StatusOr<StepResult> Step(uint64_t budget_bytes);
  // As Job's methods of these names.
  bool Drain();
  void OnResume() { resumed_ = true; }
  absl::optional<IoError> TakeError();
  Progress progress() const { return claims_.progress(); }
  // What it remembers beside `dirty`.
  uint64_t bitmap_bytes() const { return claims_.memory_bytes(); }
  void set_waker(std::function<void()> waker);

  // Guests' changes go through from now on: write-blocking.
  void SetWriteBlocking() { write_blocking_ = true; }
  // Source and target are the same, but for what guests change at this moment.
  bool is_in_sync() const { return claims_.is_in_sync(); }
  bool is_stopped() const { return claims_.is_open(); }
  // The same, and guests' changes go through.
  bool is_actively_synced() const {
    return write_blocking_ && told_ready_ && !is_troubled_ && claims_.is_in_sync();
  }
  // It is to come to its end: Step says kDone as soon as source and target are the same.
  void End();
  // Copies most of what is left and makes it durable while guests go on, so that little is left for
  // CatchUp. After the last Step and Drain; may block.
  absl::Status ComeClose();
  // Copies what is left and makes it durable, with the guests held: the two disks are the same at
  // this instant. After the last Step and Drain; may block.
  absl::Status CatchUp();
  // Given up: guests' changes concern the source alone, and Step fails. Must not block.
  void Stop();
  // Stops, and waits until nothing is in flight at the target. May block.
  void Finish();

 private:
  struct Through;

  MirrorCopy(std::shared_ptr<storage::Storage> source, std::shared_ptr<storage::Storage> target,
             std::shared_ptr<bitmap::DirtyBitmap> dirty, const CopyOptions& options,
             const CopyWorkers& workers, Clock* clock);

  bool GoesThrough(const GuestChange& change) const;
  absl::Status ChangeBehind(const GuestChange& change, absl::FunctionRef<absl::Status()> on_source);
  // Returns when the target has it, or at `until`.
  void BringToTarget(const GuestChange& change, MirrorClaims::TurnHandle turn, Budget::Loan loan,
                     absl::Duration until);
  void EndThrough(MirrorClaims::TurnHandle turn, const absl::Status& status);
  absl::Status Go(absl::FunctionRef<BackgroundCopy::Moved()> step, int rounds_max);
  absl::Status CopyAndFlush(int rounds_max);
  void WatchGuests();
  void WatchFromNow();
  StepResult Rest(StepResult result);
  void NoteError(const absl::Status& status);
  void WakeIfIdle();
  void Wake();

  // First of all, and so last to go: what is below may wake until it is gone.
  Mutex mutex_;
  CondVar changed_;
  std::function<void()> waker_ ABSL_GUARDED_BY(mutex_);
  absl::optional<absl::Status> guest_error_ ABSL_GUARDED_BY(mutex_);
  // Guests' changes on their way to the target.
  int through_count_ ABSL_GUARDED_BY(mutex_) = 0;

  // Constant after construction.
  const CopyOptions options_;
  const std::shared_ptr<storage::Storage> target_;
  Executor* const target_io_;
  Budget* const memory_;
  Clock& clock_;

  // Own synchronisation.
  MirrorClaims claims_;
  std::atomic<bool> write_blocking_ = false;
  std::atomic<bool> is_outrun_ = false;  // Guests always leave some to copy.
  std::atomic<bool> is_ending_ = false;
  std::atomic<bool> told_ready_ = false;
  // The target has failed, or takes too long: nobody waits for it until it has taken something.
  std::atomic<bool> is_troubled_ = false;
  std::atomic<bool> step_waits_ = false;
  std::atomic<bool> resumed_ = false;

  // The stepping worker's own.
  BackgroundCopy background_;
  bool top_layer_known_ = false;
  uint64_t copied_seen_bytes_ = 0;
  // Where the look at the guests began: what had been copied, and what was left.
  uint64_t watched_copied_bytes_ = 0;
  uint64_t watched_left_bytes_ = 0;
};

}  // namespace tidemark::copy

#endif  // ENGINE_COPY_MIRROR_COPY_H_
