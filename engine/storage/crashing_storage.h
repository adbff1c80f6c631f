// A disk with a volatile cache that can lose its power: for testing that metadata is written in an
// order that survives.
//
// Fault model: what was written before a Flush that returned is durable. Every later write may,
// each by itself and whatever its order, be on the disk wholly, not at all, or torn: some of its
// 512-byte sectors new and the others old. Sectors themselves never tear. A change of the file's
// size may be lost too, unless a write that lies past the old end got through. Safe from any
// thread.
#ifndef ENGINE_STORAGE_CRASHING_STORAGE_H_
#define ENGINE_STORAGE_CRASHING_STORAGE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/base/mutex.h"
#include "engine/storage/memory_storage.h"
#include "engine/storage/storage.h"

namespace tidemark::storage {

class CrashingStorage final : public Storage {
 public:
  // Begins with the bytes of `initial`, all durable; `initial` itself is left alone.
  explicit CrashingStorage(const MemoryStorage& initial);

  // The disk as it may be found after the power failed now: one of the possibilities, chosen by
  // `seed`. This storage goes on as if nothing had happened.
  std::shared_ptr<MemoryStorage> Crash(uint64_t seed) const;
  // The two extremes: nothing since the last Flush, and everything.
  std::shared_ptr<MemoryStorage> CrashLosingAll() const;
  std::shared_ptr<MemoryStorage> CrashLosingNothing() const;

  // Changing requests (writes, zeroes, discards, resizes, flushes) so far.
  int change_count() const;
  // From change number `count` on (counted from 0) every changing request fails with IO_ERROR and
  // changes nothing: the moment of the power failure within an operation. -1 for never.
  void set_fail_from(int count);

  uint64_t size_bytes() const override { return current_->size_bytes(); }
  Limits limits() const override { return current_->limits(); }
  absl::Status Read(uint64_t offset_bytes, Bytes buffer) override;
  absl::Status Write(uint64_t offset_bytes, ConstBytes data, WriteOptions options = {}) override;
  absl::Status WriteZeroes(Range range, ZeroOptions options = {}) override;
  absl::Status Discard(Range range) override;
  absl::Status Flush() override;
  absl::Status Resize(uint64_t size_bytes) override;
  absl::StatusOr<Extent> Map(Range range) override { return current_->Map(range); }

 private:
  struct Change {
    enum class Kind { kWrite, kZero, kResize } kind;
    Range range;       // kResize: the length is the new size.
    std::string data;  // kWrite.
  };
  // Does `part` of `change` (of a resize: all of it) to `disk`.
  static void Apply(const Change& change, Range part, MemoryStorage& disk);
  absl::Status Count() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Its own synchronisation.
  const std::shared_ptr<MemoryStorage> current_;

  mutable Mutex mutex_;
  std::shared_ptr<MemoryStorage> durable_ ABSL_GUARDED_BY(mutex_);
  std::vector<Change> unsynced_ ABSL_GUARDED_BY(mutex_);
  int change_count_ ABSL_GUARDED_BY(mutex_) = 0;
  int fail_from_ ABSL_GUARDED_BY(mutex_) = -1;
};

}  // namespace tidemark::storage

#endif  // ENGINE_STORAGE_CRASHING_STORAGE_H_
