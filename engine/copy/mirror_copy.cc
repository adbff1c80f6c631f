#include "engine/copy/mirror_copy.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "engine/copy/background_step.h"
#include "engine/copy/limits.h"

namespace tidemark::copy {
namespace {

constexpr uint64_t kUnlimited = std::numeric_limits<uint64_t>::max();
// Guests that go on writing must not keep it for ever.
constexpr int kComeCloseRounds = 256;

}  // namespace

// A guest's change on its way to the target: it has its own data, since the guest need not wait for
// it to the end.
struct MirrorCopy::Through {
  GuestChange change;
  std::string data;
  Budget::Loan loan;
  bool is_over = false;  // Guarded by the mutex of the mirror.
};

std::shared_ptr<MirrorCopy> MirrorCopy::Make(std::shared_ptr<storage::Storage> source,
                                             std::shared_ptr<storage::Storage> target,
                                             std::shared_ptr<bitmap::DirtyBitmap> dirty,
                                             const CopyOptions& options, const CopyWorkers& workers,
                                             Clock* clock) {
  CHECK(dirty->granularity_bytes() == options.cluster_bytes);
  // Not make_shared: the constructor is private.
  return std::shared_ptr<MirrorCopy>(new MirrorCopy(std::move(source), std::move(target),
                                                    std::move(dirty), options, workers, clock));
}

MirrorCopy::MirrorCopy(std::shared_ptr<storage::Storage> source,
                       std::shared_ptr<storage::Storage> target,
                       std::shared_ptr<bitmap::DirtyBitmap> dirty, const CopyOptions& options,
                       const CopyWorkers& workers, Clock* clock)
    : options_(options),
      target_(target),
      target_io_(workers.io),
      memory_(workers.memory),
      clock_(*clock),
      claims_(std::move(dirty)),
      background_(std::move(source), std::move(target), options, &claims_,
                  BackgroundWorkers(workers, [this] { Wake(); }), workers.memory),
      watched_left_bytes_(claims_.to_copy_bytes()) {}

MirrorCopy::~MirrorCopy() { Finish(); }

// ---- Guests

bool MirrorCopy::GoesThrough(const GuestChange& change) const {
  const bool wanted = write_blocking_ || is_outrun_ || is_ending_;
  if (!wanted || is_troubled_ || claims_.is_open()) return false;
  // What a discard leaves is the source's own affair: the job looks what it is.
  if (change.kind == GuestChange::Kind::kDiscard || change.range.empty()) return false;
  // Nor is so much ever free at one time while the job copies.
  if (change.range.length_bytes > kZeroBytesSlowMax) return false;
  const uint64_t alignment = target_->limits().request_alignment_bytes;
  return change.range.offset_bytes % alignment == 0 && change.range.length_bytes % alignment == 0;
}

absl::Status MirrorCopy::Change(const GuestChange& change,
                                absl::FunctionRef<absl::Status()> on_source) {
  if (!GoesThrough(change)) return ChangeBehind(change, on_source);
  Budget::Loan loan;
  if (memory_ != nullptr && change.kind == GuestChange::Kind::kWrite) {
    loan = memory_->TryTake(change.range.length_bytes);
    if (!loan) return ChangeBehind(change, on_source);
  }
  const absl::Duration since = clock_.Elapsed();
  const absl::optional<MirrorClaims::TurnHandle> turn = claims_.BeginTurn(
      change.range, [&] { return is_troubled_ || clock_.Elapsed() - since >= kGuestStallMax; });
  if (!turn.has_value()) {
    if (clock_.Elapsed() - since >= kGuestStallMax) is_troubled_ = true;
    return ChangeBehind(change, on_source);
  }
  const absl::Status status = on_source();
  if (status.ok()) {
    BringToTarget(change, *turn, std::move(loan), since + kGuestStallMax);
  } else {
    claims_.EndTurn(*turn, /*in_target=*/false);
  }
  WakeIfIdle();
  return status;
}

absl::Status MirrorCopy::ChangeBehind(const GuestChange& change,
                                      absl::FunctionRef<absl::Status()> on_source) {
  const absl::Status status = on_source();
  claims_.ChangedBehind(change.range);
  WakeIfIdle();
  return status;
}

void MirrorCopy::BringToTarget(const GuestChange& change, MirrorClaims::TurnHandle turn,
                               Budget::Loan loan, absl::Duration until) {
  auto through = std::make_shared<Through>();
  through->change = change;
  through->change.write_options = {};
  through->change.zero_options.fast_only = false;
  through->data.assign(reinterpret_cast<const char*>(change.data.data()), change.data.size());
  through->change.data = {reinterpret_cast<const std::byte*>(through->data.data()),
                          through->data.size()};
  through->loan = std::move(loan);
  bool is_given_up = false;
  {
    MutexLock lock(&mutex_);
    // Who gives up opens first, and then waits for those that are counted.
    is_given_up = claims_.is_open();
    if (!is_given_up) ++through_count_;
  }
  if (is_given_up) return claims_.EndTurn(turn, /*in_target=*/false);
  const auto bring = [this, through, turn] {
    EndThrough(turn, Apply(through->change, *target_));
    MutexLock lock(&mutex_);
    through->is_over = true;
    --through_count_;
    changed_.SignalAll();
  };
  if (target_io_ == nullptr) return bring();
  // Whoever destroys the mirror waits for it.
  target_io_->Post(bring);
  MutexLock lock(&mutex_);
  while (!through->is_over && clock_.Elapsed() < until && !claims_.is_open()) {
    changed_.WaitFor(&mutex_, kGuestLookAround);
  }
  if (!through->is_over) is_troubled_ = true;
}

void MirrorCopy::EndThrough(MirrorClaims::TurnHandle turn, const absl::Status& status) {
  claims_.EndTurn(turn, status.ok());
  if (status.ok()) return;
  NoteError(status);
  Wake();
}

// ---- The job

absl::StatusOr<StepResult> MirrorCopy::Step(uint64_t budget_bytes) {
  if (claims_.is_open()) return absl::CancelledError("the mirror was stopped");
  if (resumed_.exchange(false)) {
    background_.ForgetError();
    TakeError();
  }
  StepResult result;
  result.io_error = TakeError();
  if (result.io_error.has_value()) return result;
  if (options_.only_top_layer && !top_layer_known_) {
    BackgroundCopy::Moved walked = background_.Walk();
    top_layer_known_ = walked.idle;
    // Before, nothing was known of how much there is to copy.
    if (top_layer_known_) WatchFromNow();
    return ResultOf(std::move(walked));
  }
  BackgroundCopy::Moved moved = background_.Move(budget_bytes, /*share=*/false);
  const bool is_idle = moved.idle && !moved.io_error.has_value();
  result = ResultOf(std::move(moved));
  if (result.io_error.has_value()) {
    if (!result.io_error->is_read) is_troubled_ = true;
    return result;
  }
  const uint64_t copied_bytes = claims_.progress().current_bytes;
  if (copied_bytes != std::exchange(copied_seen_bytes_, copied_bytes)) is_troubled_ = false;
  if (is_idle) return Rest(std::move(result));
  WatchGuests();
  return result;
}

// Nothing is left for the job at the moment.
StepResult MirrorCopy::Rest(StepResult result) {
  if (!told_ready_) {
    BackgroundCopy::Moved flushed = background_.Flush();
    const uint64_t moved_bytes = result.moved_bytes;
    const bool is_durable = flushed.idle;
    result = ResultOf(std::move(flushed));
    result.moved_bytes = moved_bytes;
    if (!is_durable) return result;
    told_ready_ = result.ready = true;
    is_outrun_ = false;
  }
  if (is_ending_) {
    result.next = StepResult::Next::kDone;
    return result;
  }
  step_waits_ = true;
  if (!claims_.IsEmpty()) {
    step_waits_ = false;
    result.next = StepResult::Next::kAgain;
    return result;
  }
  result.next = StepResult::Next::kWait;
  result.delay = kMirrorLookAround;
  return result;
}

// Looks back whenever as much was copied as was left at the last look, or a good deal: if then not
// half as much is left, it comes to an end by itself.
void MirrorCopy::WatchGuests() {
  if (told_ready_ || is_outrun_) return;
  const Progress progress = claims_.progress();
  const uint64_t window_bytes = std::max<uint64_t>(watched_left_bytes_, kInFlightBytesMax);
  if (progress.current_bytes - watched_copied_bytes_ < window_bytes) return;
  is_outrun_ = progress.total_bytes - progress.current_bytes > watched_left_bytes_ / 2;
  WatchFromNow();
}

void MirrorCopy::WatchFromNow() {
  const Progress progress = claims_.progress();
  watched_copied_bytes_ = progress.current_bytes;
  watched_left_bytes_ = progress.total_bytes - progress.current_bytes;
}

bool MirrorCopy::Drain() {
  if (!background_.TryDrain()) return false;
  if (!claims_.is_open()) return true;
  MutexLock lock(&mutex_);
  return through_count_ == 0;
}

absl::optional<IoError> MirrorCopy::TakeError() {
  MutexLock lock(&mutex_);
  absl::optional<absl::Status> error = std::exchange(guest_error_, absl::nullopt);
  if (!error.has_value()) return absl::nullopt;
  return IoError{/*is_read=*/false, *std::move(error)};
}

void MirrorCopy::End() {
  is_ending_ = true;
  Wake();
}

absl::Status MirrorCopy::Go(absl::FunctionRef<BackgroundCopy::Moved()> step, int rounds_max) {
  for (int round = 0; round < rounds_max; ++round) {
    if (claims_.is_open()) return absl::CancelledError("the mirror was stopped");
    const BackgroundCopy::Moved moved = step();
    background_.Drain();
    if (moved.io_error.has_value()) return moved.io_error->status;
    if (moved.idle) return absl::OkStatus();
  }
  return absl::OkStatus();
}

absl::Status MirrorCopy::CopyAndFlush(int rounds_max) {
  RETURN_IF_ERROR(Go([this] { return background_.Move(kUnlimited, /*share=*/false); }, rounds_max));
  is_troubled_ = false;
  // Of guests' own writes the background knows nothing.
  background_.ForgetFlush();
  return Go([this] { return background_.Flush(); }, rounds_max);
}

// What guests bring meanwhile is theirs to wait for: there is always some.
absl::Status MirrorCopy::ComeClose() { return CopyAndFlush(kComeCloseRounds); }

absl::Status MirrorCopy::CatchUp() {
  {
    // Those that no guest has waited for to the end.
    MutexLock lock(&mutex_);
    while (through_count_ > 0 && !claims_.is_open()) changed_.WaitFor(&mutex_, kGuestLookAround);
  }
  return CopyAndFlush(std::numeric_limits<int>::max());
}

void MirrorCopy::Stop() { claims_.Open(); }

void MirrorCopy::Finish() {
  Stop();
  background_.Drain();
  background_.Drop();
  MutexLock lock(&mutex_);
  while (through_count_ > 0) changed_.Wait(&mutex_);
}

// ---- Waking

void MirrorCopy::NoteError(const absl::Status& status) {
  is_troubled_ = true;
  MutexLock lock(&mutex_);
  if (!guest_error_.has_value()) guest_error_ = status;
}

void MirrorCopy::WakeIfIdle() {
  if (step_waits_.exchange(false)) Wake();
}

void MirrorCopy::set_waker(std::function<void()> waker) {
  MutexLock lock(&mutex_);
  waker_ = std::move(waker);
}

void MirrorCopy::Wake() {
  std::function<void()> waker;
  {
    MutexLock lock(&mutex_);
    waker = waker_;
  }
  if (waker != nullptr) waker();
}

}  // namespace tidemark::copy
