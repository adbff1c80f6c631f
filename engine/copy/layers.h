// Two views of a disk with backing images, for copies between the layers of one chain. Thread rule:
// that of storage::Storage.
#ifndef ENGINE_COPY_LAYERS_H_
#define ENGINE_COPY_LAYERS_H_

#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "engine/storage/storage.h"

namespace tidemark::copy {

// Reads as the disk, and tells what some layers of its chain hold as if they were its top layer:
// with CopyOptions::only_top_layer these are what is copied.
class LayersSource final : public storage::ForwardingStorage {
 public:
  // Counted as Extent::depth counts them: 1 is the disk's own layer. `last` is at least `first`.
  LayersSource(std::shared_ptr<storage::Storage> disk, int first, int last)
      : ForwardingStorage(std::move(disk)), first_(first), last_(last) {}

  absl::StatusOr<storage::Extent> Map(Range range) override {
    absl::StatusOr<storage::Extent> extent = ForwardingStorage::Map(range);
    if (extent.ok()) extent->depth = extent->depth >= first_ && extent->depth <= last_ ? 1 : 2;
    return extent;
  }
  // Nothing to do with what is read.
  absl::StatusOr<std::unique_ptr<storage::Placement>> PlaceRead(Range range) override {
    return next().PlaceRead(range);
  }

 private:
  const int first_;
  const int last_;
};

// Takes what the disk shows already, and stores it where the disk holds nothing itself: it reads
// the same afterwards, and nothing that somebody has written meanwhile is touched.
class CopyUpTarget final : public storage::ForwardingStorage {
 public:
  using ForwardingStorage::ForwardingStorage;

  absl::Status Write(uint64_t offset_bytes, storage::ConstBytes data,
                     storage::WriteOptions options) override {
    options.unchanged = options.only_unallocated = true;
    return ForwardingStorage::Write(offset_bytes, data, options);
  }
  absl::Status WriteZeroes(Range range, storage::ZeroOptions options) override {
    options.unchanged = options.only_unallocated = true;
    return ForwardingStorage::WriteZeroes(range, options);
  }
};

}  // namespace tidemark::copy

#endif  // ENGINE_COPY_LAYERS_H_
