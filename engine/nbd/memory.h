// Memory for the data of requests and replies, reused: fresh pages cost more than the copies that
// go through them.
#ifndef ENGINE_NBD_MEMORY_H_
#define ENGINE_NBD_MEMORY_H_

#include <array>
#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "engine/base/mutex.h"
#include "engine/nbd/limits.h"
#include "engine/storage/storage.h"

namespace tidemark::nbd {

class MemoryPool;

// A stretch of page-aligned memory; empty, or lent by a pool. Movable; used by one thread at a
// time. What it holds at first is whatever the last user left.
class Memory {
 public:
  Memory() = default;
  Memory(Memory&& other) noexcept { *this = std::move(other); }
  Memory& operator=(Memory&& other) noexcept;
  ~Memory() { Release(); }

  std::byte* data() const { return data_; }
  size_t size() const { return size_bytes_; }
  storage::Bytes bytes() const { return {data_, size_bytes_}; }
  void Release();

 private:
  friend class MemoryPool;

  std::shared_ptr<MemoryPool> pool_;
  std::byte* data_ = nullptr;
  size_t size_bytes_ = 0;
};

// Any thread.
class MemoryPool : public std::enable_shared_from_this<MemoryPool> {
 public:
  static std::shared_ptr<MemoryPool> Make();
  ~MemoryPool();
  MemoryPool(const MemoryPool&) = delete;
  MemoryPool& operator=(const MemoryPool&) = delete;

  // At most kPayloadBytesMax.
  Memory Take(size_t size_bytes);

 private:
  friend class Memory;
  static constexpr int kClassBitsMin = 12;
  static constexpr int kClassBitsMax = 25;

  MemoryPool() = default;
  static int ClassOf(size_t size_bytes);
  void Return(std::byte* data, int size_class);

  Mutex mutex_;
  size_t kept_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  // Free stretches of 2^(kClassBitsMin + index) bytes.
  std::array<std::vector<std::byte*>, kClassBitsMax - kClassBitsMin + 1> free_
      ABSL_GUARDED_BY(mutex_);
};

}  // namespace tidemark::nbd

#endif  // ENGINE_NBD_MEMORY_H_
