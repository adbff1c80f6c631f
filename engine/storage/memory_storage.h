// A disk in memory: sparse, for tests and as the model that other storages are compared with.
#ifndef ENGINE_STORAGE_MEMORY_STORAGE_H_
#define ENGINE_STORAGE_MEMORY_STORAGE_H_

#include <map>
#include <memory>
#include <string>

#include "absl/strings/string_view.h"
#include "engine/base/mutex.h"
#include "engine/storage/storage.h"

namespace tidemark::storage {

// Behaves as a FileStorage over a file: it grows when written past its end, and reads past the end
// give zeroes. Only chunks that hold something else than zeroes since they were last zeroed take
// memory; Map tells them from holes. Safe from any thread.
class MemoryStorage final : public Storage {
 public:
  explicit MemoryStorage(uint64_t size_bytes) : size_bytes_(size_bytes) {}
  // A disk that holds exactly `contents`.
  static std::shared_ptr<MemoryStorage> Of(absl::string_view contents);

  // The whole disk, or some of it, as a string.
  std::string Contents() const;
  std::string Contents(Range range) const;
  // An independent disk with the same bytes.
  std::shared_ptr<MemoryStorage> Copy() const;

  uint64_t size_bytes() const override;
  Limits limits() const override;
  absl::Status Read(uint64_t offset_bytes, Bytes buffer) override;
  absl::Status Write(uint64_t offset_bytes, ConstBytes data, WriteOptions options = {}) override;
  absl::Status WriteZeroes(Range range, ZeroOptions options = {}) override;
  absl::Status Discard(Range range) override;
  absl::Status Flush() override { return absl::OkStatus(); }
  absl::Status Resize(uint64_t size_bytes) override;
  absl::StatusOr<Extent> Map(Range range) override;

 private:
  static constexpr uint64_t kChunkBytes = 4096;
  using Chunk = std::unique_ptr<std::byte[]>;

  void ZeroLocked(Range range) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable Mutex mutex_;
  uint64_t size_bytes_ ABSL_GUARDED_BY(mutex_);
  // By number of the chunk. An absent chunk is all zeroes.
  std::map<uint64_t, Chunk> chunks_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tidemark::storage

#endif  // ENGINE_STORAGE_MEMORY_STORAGE_H_
