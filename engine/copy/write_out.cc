#include "engine/copy/write_out.h"

#include <algorithm>
#include <utility>

#include "engine/base/check.h"
#include "engine/copy/limits.h"

namespace tidemark::copy {

WriteOut::WriteOut(std::shared_ptr<storage::Storage> target, const CopyOptions& options,
                   const CopyWorkers& workers, Clock* clock, Callbacks callbacks)
    : target_(std::move(target)),
      workers_(workers.guest),
      clock_(clock),
      memory_(workers.memory),
      callbacks_(std::move(callbacks)),
      clusters_(options.cluster_bytes,
                std::max<int>(1, kCaptureBytesUnbudgeted / options.cluster_bytes)),
      // Its own thread places, and waits.
      lane_({.target = workers.io}, options.workers_max, options.compress),
      written_at_(clock->Elapsed()) {}

// ---- The guests' side

bool WriteOut::IsStalled(absl::Duration since) const {
  MutexLock lock(&mutex_);
  const absl::Duration stall_max = error_.ok() ? kGuestStallMax : kGuestStallFailedMax;
  return clock_->Elapsed() - std::max(since, written_at_) >= stall_max;
}

bool WriteOut::Reserve(size_t bytes) {
  CHECK(bytes <= kCaptureBytesMax);
  const absl::Duration begin = clock_->Elapsed();
  for (;;) {
    {
      MutexLock lock(&mutex_);
      if (stopped_) return false;
      if (TryReserveLocked(bytes)) return true;
      changed_.WaitFor(&mutex_, kGuestLookAround);
    }
    if (IsStalled(begin)) return false;
  }
}

bool WriteOut::TryReserveLocked(size_t bytes) {
  const size_t wanted_bytes = reserved_bytes_ + bytes;
  if (wanted_bytes > kCaptureBytesMax) return false;
  // What is reserved already is on its way to the target, and makes room when it is there.
  const bool may_wait = memory_ != nullptr && reserved_bytes_ > 0;
  if (may_wait && wanted_bytes > kCaptureBytesUnbudgeted + borrowed_bytes_) {
    Budget::Loan loan = memory_->TryTake(bytes);
    if (!loan) return false;
    borrowed_.push_back({bytes, std::move(loan)});
    borrowed_bytes_ += bytes;
  }
  reserved_bytes_ = wanted_bytes;
  return true;
}

void WriteOut::UnreserveLocked(size_t bytes) {
  reserved_bytes_ -= bytes;
  while (!borrowed_.empty() &&
         reserved_bytes_ <= kCaptureBytesUnbudgeted + borrowed_bytes_ - borrowed_.back().bytes) {
    borrowed_bytes_ -= borrowed_.back().bytes;
    borrowed_.pop_back();
  }
}

void WriteOut::Unreserve(size_t bytes) {
  {
    MutexLock lock(&mutex_);
    UnreserveLocked(bytes);
  }
  changed_.SignalAll();
}

std::unique_ptr<Batch> WriteOut::MakeBatch(Range range) {
  auto batch = std::make_unique<Batch>();
  // May be absent although there is room: memory comes back a moment after its room does.
  if (range.length_bytes <= clusters_.buffer_size_bytes()) batch->loan = clusters_.TryTake();
  if (batch->loan.has_value()) {
    batch->memory = batch->loan->data();
  } else {
    batch->own = storage::AlignedBuffer(range.length_bytes);
    batch->memory = batch->own.data();
  }
  batch->AddData(range);
  return batch;
}

void WriteOut::Add(std::unique_ptr<Batch> batch, size_t reserved_bytes) {
  bool run = false;
  {
    MutexLock lock(&mutex_);
    waiting_.push_back({std::move(batch), reserved_bytes});
    KickLocked(&run);
  }
  if (run) Launch();
}

// ---- The task

void WriteOut::KickLocked(bool* run) {
  const bool has_work = !waiting_.empty() && (stopped_ || error_.ok());
  *run = has_work && !running_;
  running_ |= *run;
}

void WriteOut::Launch() {
  if (workers_ == nullptr) return Run();
  workers_->Post([self = shared_from_this()] { self->Run(); });
}

void WriteOut::Run() {
  do {
    RunTurn();
    if (EndTask()) return;
  } while (workers_ == nullptr);
  // There is more, but other copies use the same pool.
  Launch();
}

void WriteOut::RunTurn() {
  std::vector<Batch*> ended;
  int begun_count = 0;
  do {
    // Whoever waits for the target to be empty is let in first.
    while (begun_count < kCapturesPerTurnMax && (begun_.empty() || !target_->draining())) {
      absl::optional<Saved> next = TakeNext(begun_bytes_);
      if (!next.has_value()) break;
      begun_bytes_ += next->reserved_bytes;
      ++begun_count;
      Batch* const batch = next->batch.get();
      begun_.push_back(*std::move(next));
      lane_.Write(target_.get(), batch);
    }
    if (begun_.empty()) return;
    lane_.Reap(kReapTimeout, &ended);
    HandleEnded(&ended);
  } while (!begun_.empty());
}

absl::optional<WriteOut::Saved> WriteOut::TakeNext(size_t begun_bytes) {
  MutexLock lock(&mutex_);
  const bool full = begun_bytes > 0 && begun_bytes >= kWriteOutBytesMax;
  if (full || stopped_ || !error_.ok() || waiting_.empty()) return absl::nullopt;
  Saved next = std::move(waiting_.front());
  waiting_.pop_front();
  next.begun_in_try = try_;
  return next;
}

void WriteOut::HandleEnded(std::vector<Batch*>* ended) {
  for (Batch* const batch : *ended) {
    const auto at = std::find_if(begun_.begin(), begun_.end(), [batch](const Saved& saved) {
      return saved.batch.get() == batch;
    });
    CHECK(at != begun_.end());
    Saved saved = std::move(*at);
    begun_.erase(at);
    begun_bytes_ -= saved.reserved_bytes;
    if (batch->status.ok()) {
      {
        MutexLock lock(&mutex_);
        UnreserveLocked(saved.reserved_bytes);
        written_at_ = clock_->Elapsed();
      }
      callbacks_.written(*batch);
      changed_.SignalAll();
      continue;
    }
    MutexLock lock(&mutex_);
    if (error_.ok() && saved.begun_in_try == try_) {
      error_ = batch->status;
      error_taken_ = false;
    }
    waiting_.push_front(std::move(saved));
  }
  ended->clear();
}

// The task is over if there is nothing that it could do.
bool WriteOut::EndTask() {
  DropAll();
  bool failed = false;
  {
    MutexLock lock(&mutex_);
    const bool has_work = !waiting_.empty() && (stopped_ || error_.ok());
    if (has_work) return false;
    running_ = false;
    failed = !error_.ok() && !stopped_;
    telling_ = failed;
  }
  changed_.SignalAll();
  if (!failed) return true;
  callbacks_.failed();
  {
    MutexLock lock(&mutex_);
    telling_ = false;
  }
  changed_.SignalAll();
  return true;
}

// ---- Errors and the end

absl::optional<absl::Status> WriteOut::TakeError() {
  MutexLock lock(&mutex_);
  if (error_.ok() || error_taken_ || running_) return absl::nullopt;
  error_taken_ = true;
  return error_;
}

bool WriteOut::has_error() const {
  MutexLock lock(&mutex_);
  return !error_.ok() && !running_;
}

void WriteOut::ForgetError() {
  MutexLock lock(&mutex_);
  ++try_;
  if (!error_.ok()) error_taken_ = true;
}

void WriteOut::Retry() {
  bool run = false;
  {
    MutexLock lock(&mutex_);
    if (running_ || error_.ok() || !error_taken_) return;
    error_ = absl::OkStatus();
    KickLocked(&run);
  }
  if (run) Launch();
}

void WriteOut::Stop() {
  bool task_drops = false;
  {
    MutexLock lock(&mutex_);
    stopped_ = true;
    task_drops = running_;
  }
  changed_.SignalAll();
  if (!task_drops) DropAll();
}

void WriteOut::DropAll() {
  std::deque<Saved> dropped;
  {
    MutexLock lock(&mutex_);
    if (!stopped_) return;
    dropped.swap(waiting_);
    for (const Saved& saved : dropped) UnreserveLocked(saved.reserved_bytes);
  }
  for (const Saved& saved : dropped) callbacks_.dropped(*saved.batch);
  if (!dropped.empty()) changed_.SignalAll();
}

bool WriteOut::AwaitIdle(absl::Duration timeout) {
  MutexLock lock(&mutex_);
  const auto idle = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return !running_ && !telling_ && (waiting_.empty() || (!error_.ok() && !stopped_));
  };
  if (!idle()) changed_.WaitFor(&mutex_, timeout);
  return idle();
}

}  // namespace tidemark::copy
