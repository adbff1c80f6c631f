#include "engine/copy/copier.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <utility>

#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "engine/copy/background_copy.h"
#include "engine/copy/background_step.h"
#include "engine/copy/copy_truth.h"
#include "engine/copy/guest_capture.h"
#include "engine/copy/limits.h"
#include "engine/copy/write_out.h"

namespace tidemark::copy {
namespace {

// Background path, guest path and write-out over one truth; what is decided here is only who has
// his turn, and when the copy is complete.
class TwoPathCopy final : public BlockCopy, public std::enable_shared_from_this<TwoPathCopy> {
 public:
  TwoPathCopy(std::shared_ptr<storage::Storage> source, std::shared_ptr<storage::Storage> target,
              std::unique_ptr<bitmap::DirtyBitmap> to_copy, const CopyOptions& options,
              const CopyWorkers& workers, Clock* clock)
      : options_(options),
        target_(target),
        truth_(std::move(to_copy), options.await_target_reads != nullptr),
        write_out_(std::make_shared<WriteOut>(
            target, options, workers, clock,
            WriteOut::Callbacks{[this](const Batch& batch) { OnWritten(batch); },
                                [this](const Batch& batch) { OnDropped(batch); },
                                [this] { Wake(); }})),
        capture_(source, options, &truth_, write_out_.get(), clock, [this] { Wake(); }),
        background_(source, target, options, &truth_,
                    BackgroundWorkers(workers, [this] { Wake(); }), workers.memory),
        can_wait_(workers.io == nullptr || workers.watch == nullptr) {}

  ~TwoPathCopy() override { Finish(); }

  absl::Status Capture(Range range) override {
    capture_.Capture(range);
    return absl::OkStatus();
  }

  absl::StatusOr<StepResult> Step(uint64_t budget_bytes) override;
  bool Drain() override;
  void OnResume() override { resumed_ = true; }
  void Stop() override { capture_.Stop(); }
  void Finish() override;

  void set_waker(std::function<void()> waker) override {
    MutexLock lock(&mutex_);
    waker_ = std::move(waker);
  }

  absl::Status lost() const override { return capture_.lost(); }
  bool shows_instant() const override { return !truth_.is_open() || is_complete_; }
  absl::optional<IoError> TakeError() override;
  Progress progress() const override { return truth_.progress(); }
  uint64_t bitmap_bytes() const override { return truth_.memory_bytes(); }
  const bitmap::DirtyBitmap& not_copied() const override { return truth_.to_copy(); }

 private:
  void OnWritten(const Batch& batch);
  void OnDropped(const Batch& batch);
  void Wake();
  void AwaitGuestPath();
  bool GuestPathIsIdle();
  bool MakeDurable();
  StepResult AwaitGuests();
  absl::StatusOr<StepResult> EndOrWait(StepResult result);

  // First of all, and so last to go: the paths below may wake until they are gone.
  Mutex mutex_;
  std::function<void()> waker_ ABSL_GUARDED_BY(mutex_);

  const CopyOptions options_;
  const std::shared_ptr<storage::Storage> target_;
  CopyTruth truth_;
  const std::shared_ptr<WriteOut> write_out_;
  GuestCapture capture_;
  BackgroundCopy background_;
  // Nobody would tell steps what has ended.
  const bool can_wait_;

  // The stepping worker's own.
  bool top_layer_known_ = false;
  uint64_t progress_seen_ = 0;
  // A flush has failed since the last that did not: what it was for may be lost, whatever a later
  // one says.
  bool flush_failed_ = false;
  // Nothing is written any more, and it is known what is durable.
  bool made_durable_ = false;

  // Own synchronisation: a step waits for guests, who tell it once.
  std::atomic<bool> step_waits_ = false;
  std::atomic<bool> resumed_ = false;
  std::atomic<bool> is_complete_ = false;
};

void TwoPathCopy::OnWritten(const Batch& batch) {
  for (const Batch::Piece& piece : batch.data) truth_.Written(piece.range);
  for (const Range& range : batch.zeroes) truth_.Written(range);
  if (step_waits_.exchange(false)) Wake();
}

void TwoPathCopy::OnDropped(const Batch& batch) {
  for (const Batch::Piece& piece : batch.data) truth_.Lose(piece.range);
  for (const Range& range : batch.zeroes) truth_.Lose(range);
}

void TwoPathCopy::Wake() {
  std::function<void()> waker;
  {
    MutexLock lock(&mutex_);
    waker = waker_;
  }
  if (waker != nullptr) waker();
}

absl::optional<IoError> TwoPathCopy::TakeError() {
  absl::optional<absl::Status> error = write_out_->TakeError();
  if (!error.has_value()) return absl::nullopt;
  return IoError{/*is_read=*/false, *std::move(error)};
}

absl::StatusOr<StepResult> TwoPathCopy::Step(uint64_t budget_bytes) {
  RETURN_IF_ERROR(lost());
  if (truth_.is_open()) return absl::CancelledError("the copy was stopped");
  if (resumed_.exchange(false)) {
    background_.ForgetError();
    write_out_->ForgetError();
  }
  StepResult result;
  result.io_error = TakeError();
  if (result.io_error.has_value()) return result;
  write_out_->Retry();
  if (options_.only_guest_writes) return AwaitGuests();
  if (options_.only_top_layer && !top_layer_known_) {
    BackgroundCopy::Moved walked = background_.Walk();
    top_layer_known_ = walked.idle;
    return ResultOf(std::move(walked));
  }
  BackgroundCopy::Moved moved = background_.Move(budget_bytes, /*share=*/capture_.IsBusy());
  const bool is_idle = moved.idle && !moved.io_error.has_value();
  result = ResultOf(std::move(moved));
  return is_idle ? EndOrWait(std::move(result)) : result;
}

// The background has nothing more to claim: what remains is with guests, or nothing.
absl::StatusOr<StepResult> TwoPathCopy::EndOrWait(StepResult result) {
  const absl::Duration timeout = can_wait_ ? kReapTimeout : absl::ZeroDuration();
  if (!capture_.AwaitEmpty(timeout) || !write_out_->AwaitIdle(timeout)) {
    if (!can_wait_) result.next = StepResult::Next::kWait;
    result.delay = kGuestLookAround;
    return result;
  }
  // The next step tells of the error; one that came meanwhile may have given back clusters, too.
  if (write_out_->has_error() || !truth_.to_copy().IsEmpty()) return result;
  const uint64_t moved_bytes = result.moved_bytes;
  BackgroundCopy::Moved flushed = background_.Flush();
  if (flushed.io_error.has_value()) flush_failed_ = true;
  if (flushed.idle) {
    flush_failed_ = false;
    made_durable_ = true;
  }
  result = ResultOf(std::move(flushed));
  result.moved_bytes = moved_bytes;
  if (made_durable_) {
    is_complete_ = true;
    result.next = StepResult::Next::kDone;
  }
  return result;
}

StepResult TwoPathCopy::AwaitGuests() {
  StepResult result;
  result.next = StepResult::Next::kWait;
  step_waits_ = true;
  const uint64_t copied_bytes = progress().current_bytes;
  if (copied_bytes != std::exchange(progress_seen_, copied_bytes)) {
    // Guests are busy: progress is looked at from time to time, not at every write.
    step_waits_ = false;
    result.delay = kGuestProgressInterval;
  }
  return result;
}

bool TwoPathCopy::Drain() {
  if (!background_.TryDrain()) return false;
  // What a target that stands still keeps in flight at the end is waited for here, so that those
  // who call Finish need not.
  if (!truth_.is_open()) return true;
  if (can_wait_) {
    AwaitGuestPath();
  } else if (!GuestPathIsIdle()) {
    return false;
  }
  return MakeDurable();
}

bool TwoPathCopy::GuestPathIsIdle() {
  if (!capture_.AwaitEmpty(absl::ZeroDuration())) return false;
  write_out_->Stop();
  return write_out_->AwaitIdle(absl::ZeroDuration());
}

void TwoPathCopy::Finish() {
  Stop();
  background_.Drain();
  background_.Drop();
  AwaitGuestPath();
  while (!MakeDurable()) background_.Drain();
}

void TwoPathCopy::AwaitGuestPath() {
  while (!capture_.AwaitEmpty(kReapTimeout)) {
  }
  write_out_->Stop();
  while (!write_out_->AwaitIdle(kReapTimeout)) {
  }
}

// False if that is under way.
bool TwoPathCopy::MakeDurable() {
  if (made_durable_) return true;
  const bool wrote = truth_.progress().current_bytes > 0;
  bool lost = wrote && flush_failed_;
  if (wrote && !lost) {
    const BackgroundCopy::Moved flushed = background_.Flush();
    lost = flushed.io_error.has_value();
    if (!lost && !flushed.idle) return false;
  }
  if (lost) truth_.LoseWritten();
  made_durable_ = true;
  return true;
}

}  // namespace

uint64_t CopyClusterBytes(const storage::Limits& target) {
  return std::max<uint64_t>(kCopyClusterMin, target.cluster_size_bytes);
}

std::shared_ptr<BlockCopy> BlockCopy::Make(std::shared_ptr<storage::Storage> source,
                                           std::shared_ptr<storage::Storage> target,
                                           std::unique_ptr<bitmap::DirtyBitmap> to_copy,
                                           const CopyOptions& options, const CopyWorkers& workers,
                                           Clock* clock) {
  CHECK(to_copy->granularity_bytes() == options.cluster_bytes);
  return std::make_shared<TwoPathCopy>(std::move(source), std::move(target), std::move(to_copy),
                                       options, workers, clock);
}

}  // namespace tidemark::copy
