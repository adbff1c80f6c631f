// Memory fit for direct I/O, alone and in bounded pools.
#ifndef ENGINE_STORAGE_ALIGNED_BUFFER_H_
#define ENGINE_STORAGE_ALIGNED_BUFFER_H_

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <utility>
#include <vector>

#include "absl/types/optional.h"
#include "engine/base/budget.h"
#include "engine/base/budget_share.h"
#include "engine/base/mutex.h"
#include "engine/storage/limits.h"
#include "engine/storage/storage.h"

namespace tidemark::storage {

// Owns memory aligned for direct I/O; its content is undefined at first. A plain movable value.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t size_bytes, size_t alignment_bytes = kDirectAlignmentBytes);

  std::byte* data() const { return memory_.get(); }
  size_t size() const { return size_bytes_; }
  Bytes bytes() const { return Bytes(memory_.get(), size_bytes_); }
  // The first `length_bytes` of it (CHECKed).
  Bytes first(size_t length_bytes) const;

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  std::unique_ptr<std::byte, Free> memory_;
  size_t size_bytes_ = 0;
};

// At most `buffer_count_max` equal buffers, allocated when first needed and used again, last in
// first out. Safe from any thread; outlives every buffer taken from it.
//
// With a budget, buffers are on loan from it for as long as they exist, and pools share it evenly
// (budget_share.h). A pool can always go on with one, whether or not the budget has room for it;
// what it has beyond its part is freed when others lack some of theirs, or when a guest was refused
// memory; and a pool that lends nothing keeps one.
class BufferPool {
  // A buffer, and what was borrowed for it.
  struct Buffer {
    AlignedBuffer memory;
    Budget::Loan loan;
  };

 public:
  // A buffer on loan: goes back to the pool when destroyed. Movable.
  class Loan {
   public:
    Loan(Loan&& other) noexcept
        : pool_(std::exchange(other.pool_, nullptr)), buffer_(std::move(other.buffer_)) {}
    Loan& operator=(Loan&& other) noexcept {
      std::swap(pool_, other.pool_);
      std::swap(buffer_, other.buffer_);
      return *this;
    }
    ~Loan() {
      if (pool_ != nullptr) pool_->Return(std::move(buffer_));
    }
    std::byte* data() const { return buffer_.memory.data(); }
    size_t size() const { return buffer_.memory.size(); }
    Bytes bytes() const { return buffer_.memory.bytes(); }
    Bytes first(size_t length_bytes) const { return buffer_.memory.first(length_bytes); }

   private:
    friend class BufferPool;
    Loan(BufferPool* pool, Buffer buffer) : pool_(pool), buffer_(std::move(buffer)) {}
    BufferPool* pool_;
    Buffer buffer_;
  };

  // `budget` (bytes) may be null, and outlives the pool.
  BufferPool(size_t buffer_size_bytes, int buffer_count_max, Budget* budget = nullptr);
  // CHECKs that nothing is on loan.
  ~BufferPool();
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  // Absent if all are on loan, or the budget is used up. Never waits.
  absl::optional<Loan> TryTake();
  // Waits for one: workers only.
  Loan Take();

  size_t buffer_size_bytes() const { return buffer_size_bytes_; }
  int buffer_count_max() const { return buffer_count_max_; }
  int on_loan() const;

 private:
  void Return(Buffer buffer);
  bool KeepsLocked(Buffer* buffer) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Free(Buffer buffer);

  // Constant after construction.
  const size_t buffer_size_bytes_;
  const int buffer_count_max_;
  Budget* const budget_;

  // Synchronises itself; absent without a budget.
  absl::optional<BudgetShare> share_;

  mutable Mutex mutex_;
  CondVar returned_;
  std::vector<Buffer> idle_ ABSL_GUARDED_BY(mutex_);
  int on_loan_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace tidemark::storage

#endif  // ENGINE_STORAGE_ALIGNED_BUFFER_H_
