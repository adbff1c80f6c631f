// A disk that forgets: driver null-co. Every write succeeds, every read gives zeroes. Safe from any
// thread.
#ifndef ENGINE_STORAGE_NULL_STORAGE_H_
#define ENGINE_STORAGE_NULL_STORAGE_H_

#include <atomic>

#include "engine/storage/storage.h"

namespace tidemark::storage {

class NullStorage final : public Storage {
 public:
  struct Options {
    // Reads are promised to be zeroes, so Map says so too. (They are zeroes in any case: memory of
    // this process is never handed out.)
    bool read_zeroes = false;
    bool read_only = false;
  };

  explicit NullStorage(uint64_t size_bytes) : NullStorage(size_bytes, Options()) {}
  NullStorage(uint64_t size_bytes, Options options) : options_(options), size_bytes_(size_bytes) {}

  uint64_t size_bytes() const override { return size_bytes_; }
  Limits limits() const override;
  absl::Status Read(uint64_t offset_bytes, Bytes buffer) override;
  absl::Status Write(uint64_t offset_bytes, ConstBytes data, WriteOptions options = {}) override;
  absl::Status WriteZeroes(Range range, ZeroOptions options = {}) override;
  absl::Status Discard(Range range) override;
  absl::Status Flush() override { return absl::OkStatus(); }
  absl::Status Resize(uint64_t size_bytes) override;
  absl::StatusOr<Extent> Map(Range range) override;

 private:
  absl::Status Check(Range range, bool writes) const;

  const Options options_;
  std::atomic<uint64_t> size_bytes_;
};

}  // namespace tidemark::storage

#endif  // ENGINE_STORAGE_NULL_STORAGE_H_
