#include "engine/nbd/memory.h"

#include <bit>
#include <cstdlib>

#include "engine/base/check.h"

namespace tidemark::nbd {

Memory& Memory::operator=(Memory&& other) noexcept {
  if (this != &other) {
    Release();
    pool_ = std::move(other.pool_);
    data_ = std::exchange(other.data_, nullptr);
    size_bytes_ = std::exchange(other.size_bytes_, 0);
  }
  return *this;
}

void Memory::Release() {
  if (data_ != nullptr) pool_->Return(data_, MemoryPool::ClassOf(size_bytes_));
  pool_ = nullptr;
  data_ = nullptr;
  size_bytes_ = 0;
}

std::shared_ptr<MemoryPool> MemoryPool::Make() {
  return std::shared_ptr<MemoryPool>(new MemoryPool());
}

MemoryPool::~MemoryPool() {
  for (const auto& stretches : free_) {
    for (std::byte* data : stretches) std::free(data);
  }
}

int MemoryPool::ClassOf(size_t size_bytes) {
  CHECK(size_bytes > 0 && size_bytes <= size_t{1} << kClassBitsMax);
  return std::max(0, static_cast<int>(std::bit_width(size_bytes - 1)) - kClassBitsMin);
}

Memory MemoryPool::Take(size_t size_bytes) {
  Memory memory;
  if (size_bytes == 0) return memory;
  const int size_class = ClassOf(size_bytes);
  const size_t class_bytes = size_t{1} << (kClassBitsMin + size_class);
  {
    MutexLock lock(&mutex_);
    auto& stretches = free_[size_class];
    if (!stretches.empty()) {
      memory.data_ = stretches.back();
      stretches.pop_back();
      kept_bytes_ -= class_bytes;
    }
  }
  if (memory.data_ == nullptr) {
    memory.data_ = static_cast<std::byte*>(std::aligned_alloc(4096, class_bytes));
    CHECK(memory.data_ != nullptr);
  }
  memory.size_bytes_ = size_bytes;
  memory.pool_ = shared_from_this();
  return memory;
}

void MemoryPool::Return(std::byte* data, int size_class) {
  const size_t class_bytes = size_t{1} << (kClassBitsMin + size_class);
  {
    MutexLock lock(&mutex_);
    if (kept_bytes_ + class_bytes <= kPoolBytesMax) {
      free_[size_class].push_back(data);
      kept_bytes_ += class_bytes;
      return;
    }
  }
  std::free(data);
}

}  // namespace tidemark::nbd
