#include "engine/storage/null_storage.h"

#include <cstring>

#include "engine/base/error.h"
#include "engine/storage/errno_status.h"
#include "engine/storage/limits.h"

namespace tidemark::storage {

absl::Status NullStorage::Check(Range range, bool writes) const {
  if (writes && options_.read_only) {
    return Error(Reason::kNodeReadOnly, "null disk is opened read-only");
  }
  if (!range.FitsIn(size_bytes_)) return PastEndError("null disk", range, size_bytes_);
  return absl::OkStatus();
}

Limits NullStorage::limits() const {
  Limits limits;
  limits.can_discard = true;
  limits.can_write_zeroes_fast = true;
  limits.read_only = options_.read_only;
  return limits;
}

absl::Status NullStorage::Read(uint64_t offset_bytes, Bytes buffer) {
  absl::Status status = Check({offset_bytes, buffer.size()}, /*writes=*/false);
  if (status.ok() && !buffer.empty()) std::memset(buffer.data(), 0, buffer.size());
  return status;
}

absl::Status NullStorage::Write(uint64_t offset_bytes, ConstBytes data, WriteOptions options) {
  if (options.only_unallocated) return HoldsAllError("null disk");
  return Check({offset_bytes, data.size()}, /*writes=*/true);
}

absl::Status NullStorage::WriteZeroes(Range range, ZeroOptions options) {
  if (options.only_unallocated) return HoldsAllError("null disk");
  return Check(range, /*writes=*/true);
}

absl::Status NullStorage::Discard(Range range) { return Check(range, /*writes=*/true); }

absl::Status NullStorage::Resize(uint64_t size_bytes) {
  if (options_.read_only) return Check({0, 0}, /*writes=*/true);
  if (size_bytes > kFileSizeBytesMax) {
    return PastEndError("null disk", {0, size_bytes}, kFileSizeBytesMax);
  }
  size_bytes_ = size_bytes;
  return absl::OkStatus();
}

absl::StatusOr<Extent> NullStorage::Map(Range range) {
  if (absl::Status status = Check(range, /*writes=*/false); !status.ok()) return status;
  Extent extent;
  extent.range = range;
  if (options_.read_zeroes) extent.content = Extent::Content::kZero;
  return extent;
}

}  // namespace tidemark::storage
