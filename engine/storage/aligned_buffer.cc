#include "engine/storage/aligned_buffer.h"

#include <algorithm>

#include "engine/base/check.h"

namespace tidemark::storage {

AlignedBuffer::AlignedBuffer(size_t size_bytes, size_t alignment_bytes) : size_bytes_(size_bytes) {
  // aligned_alloc wants a size that is a multiple of the alignment.
  const size_t rounded_bytes = (size_bytes + alignment_bytes - 1) / alignment_bytes;
  memory_.reset(static_cast<std::byte*>(
      std::aligned_alloc(alignment_bytes, std::max<size_t>(rounded_bytes, 1) * alignment_bytes)));
  CHECK(memory_ != nullptr);
}

Bytes AlignedBuffer::first(size_t length_bytes) const {
  CHECK(length_bytes <= size_bytes_);
  return Bytes(memory_.get(), length_bytes);
}

BufferPool::BufferPool(size_t buffer_size_bytes, int buffer_count_max, Budget* budget)
    : buffer_size_bytes_(buffer_size_bytes), buffer_count_max_(buffer_count_max), budget_(budget) {
  CHECK(buffer_count_max > 0);
  if (budget != nullptr) share_.emplace(budget);
}

BufferPool::~BufferPool() {
  CHECK(on_loan() == 0);
  for (Buffer& buffer : idle_) Free(std::move(buffer));
}

absl::optional<BufferPool::Loan> BufferPool::TryTake() {
  Buffer buffer;
  {
    MutexLock lock(&mutex_);
    if (on_loan_ == buffer_count_max_) return absl::nullopt;
    if (on_loan_ == 0 && share_.has_value()) share_->SetInUse(true);
    if (!idle_.empty()) {
      ++on_loan_;
      Loan loan(this, std::move(idle_.back()));
      idle_.pop_back();
      return loan;
    }
    if (share_.has_value()) {
      buffer.loan = share_->TryTake(buffer_size_bytes_);
      if (!buffer.loan && on_loan_ > 0) return absl::nullopt;
    }
    ++on_loan_;
  }
  buffer.memory = AlignedBuffer(buffer_size_bytes_);
  return Loan(this, std::move(buffer));
}

BufferPool::Loan BufferPool::Take() {
  for (;;) {
    absl::optional<Loan> loan = TryTake();
    if (loan.has_value()) return *std::move(loan);
    MutexLock lock(&mutex_);
    // At least one is on loan, or there would have been one.
    while (idle_.empty() && on_loan_ > 0) returned_.Wait(&mutex_);
  }
}

// One that the budget had no room for is kept if it has by now.
bool BufferPool::KeepsLocked(Buffer* buffer) {
  if (!share_.has_value()) return true;
  if (!buffer->loan) buffer->loan = share_->TryTake(buffer_size_bytes_);
  return buffer->loan && !share_->OwesSome() && !budget_->TakeRefusal();
}

void BufferPool::Free(Buffer buffer) {
  if (share_.has_value()) share_->Return(std::move(buffer.loan));
}

void BufferPool::Return(Buffer buffer) {
  // Signalled with the lock held: otherwise the pool may be gone before the signal.
  MutexLock lock(&mutex_);
  if (KeepsLocked(&buffer)) {
    idle_.push_back(std::move(buffer));
  } else {
    Free(std::move(buffer));
  }
  if (--on_loan_ == 0 && share_.has_value()) {
    while (idle_.size() > 1) {
      Free(std::move(idle_.back()));
      idle_.pop_back();
    }
    share_->SetInUse(false);
  }
  returned_.Signal();
}

int BufferPool::on_loan() const {
  MutexLock lock(&mutex_);
  return on_loan_;
}

}  // namespace tidemark::storage
