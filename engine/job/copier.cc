#include "engine/job/copier.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <utility>

#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "engine/job/background_copy.h"
#include "engine/job/copy_truth.h"
#include "engine/job/guest_capture.h"
#include "engine/job/limits.h"
#include "engine/job/write_out.h"

namespace tidemark::job {
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
        background_(source, target, options, &truth_, workers) {}

  ~TwoPathCopy() override { Finish(); }

  absl::Status Capture(Range range) override {
    capture_.Capture(range);
    return absl::OkStatus();
  }

  absl::StatusOr<StepResult> Step(uint64_t budget_bytes) override;
  void Drain() override;
  void OnResume() override { resumed_ = true; }
  void Stop() override { capture_.Stop(); }
  void Finish() override;

  void set_waker(std::function<void()> waker) override {
    MutexLock lock(&mutex_);
    waker_ = std::move(waker);
  }

  absl::Status lost() const override { return capture_.lost(); }
  absl::optional<IoError> TakeError() override;
  Progress progress() const override { return truth_.progress(); }
  const bitmap::DirtyBitmap& not_copied() const override { return truth_.to_copy(); }

 private:
  void OnWritten(const Batch& batch);
  void OnDropped(const Batch& batch);
  void Wake();
  void AwaitGuestPath();
  void MakeDurable();
  StepResult AwaitGuests();
  absl::StatusOr<StepResult> EndOrWait(StepResult result);

  const CopyOptions options_;
  const std::shared_ptr<storage::Storage> target_;
  CopyTruth truth_;
  const std::shared_ptr<WriteOut> write_out_;
  GuestCapture capture_;
  BackgroundCopy background_;

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

  Mutex mutex_;
  std::function<void()> waker_ ABSL_GUARDED_BY(mutex_);
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
    const absl::StatusOr<bool> known = background_.WalkTopLayer();
    if (!known.ok()) {
      result.io_error = IoError{/*is_read=*/true, known.status()};
    } else {
      top_layer_known_ = *known;
    }
    return result;
  }
  const bool limited = budget_bytes != std::numeric_limits<uint64_t>::max();
  BackgroundCopy::Moved moved =
      background_.Move(budget_bytes, /*share=*/capture_.IsBusy(), /*stay=*/!limited);
  result.moved_bytes = moved.begun_bytes;
  result.io_error = std::move(moved.io_error);
  if (!moved.idle || result.io_error.has_value()) return result;
  return EndOrWait(std::move(result));
}

// The background has nothing more to claim: what remains is with guests, or nothing.
absl::StatusOr<StepResult> TwoPathCopy::EndOrWait(StepResult result) {
  background_.Drain();
  if (!capture_.AwaitEmpty(kReapTimeout) || !write_out_->AwaitIdle(kReapTimeout)) return result;
  // The next step tells of the error; one that came meanwhile may have given back clusters, too.
  if (write_out_->has_error() || !truth_.to_copy().IsEmpty()) return result;
  absl::Status status = target_->Flush();
  flush_failed_ = !status.ok();
  if (!status.ok()) {
    result.io_error = IoError{/*is_read=*/false, std::move(status)};
    return result;
  }
  made_durable_ = true;
  result.next = StepResult::Next::kDone;
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
    result.delay = kProgressInterval;
  }
  return result;
}

void TwoPathCopy::Drain() {
  background_.Drain();
  // What a target that stands still keeps in flight at the end is waited for here, so that those
  // who call Finish need not.
  if (!truth_.is_open()) return;
  AwaitGuestPath();
  MakeDurable();
}

void TwoPathCopy::Finish() {
  Stop();
  background_.Drain();
  background_.Drop();
  AwaitGuestPath();
  MakeDurable();
}

void TwoPathCopy::AwaitGuestPath() {
  while (!capture_.AwaitEmpty(kReapTimeout)) {
  }
  write_out_->Stop();
  while (!write_out_->AwaitIdle(kReapTimeout)) {
  }
}

void TwoPathCopy::MakeDurable() {
  if (std::exchange(made_durable_, true)) return;
  const bool wrote = truth_.progress().current_bytes > 0;
  if (wrote && (flush_failed_ || !target_->Flush().ok())) truth_.LoseWritten();
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

}  // namespace tidemark::job
