#include "engine/graph/shared_reads.h"

#include <algorithm>

#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/graph/limits.h"

namespace tidemark::graph {

using storage::Placement;

absl::Status SharedReads::CheckAll() const {
  MutexLock lock(&mutex_);
  for (const auto& [user, check] : checks_) {
    if (check != nullptr && !check()) {
      return Error(Reason::kIoError,
                   "the job that kept what this node shows of another has been given up");
    }
  }
  return absl::OkStatus();
}

absl::Status SharedReadsStorage::Read(uint64_t offset_bytes, storage::Bytes buffer) {
  if (!reads_->in_use()) [[likely]] {
    return next().Read(offset_bytes, buffer);
  }
  do {
    const size_t length_bytes = std::min(buffer.size(), kSharedReadBytesMax);
    const RangeLock::Hold hold = reads_->Share({offset_bytes, length_bytes});
    RETURN_IF_ERROR(next().Read(offset_bytes, buffer.first(length_bytes)));
    RETURN_IF_ERROR(reads_->CheckAll());
    offset_bytes += length_bytes;
    buffer.remove_prefix(length_bytes);
  } while (!buffer.empty());
  return absl::OkStatus();
}

absl::StatusOr<storage::Extent> SharedReadsStorage::Map(Range range) {
  if (!reads_->in_use()) [[likely]] {
    return next().Map(range);
  }
  const Range part{range.offset_bytes, std::min<uint64_t>(range.length_bytes, kSharedMapBytesMax)};
  const RangeLock::Hold hold = reads_->Share(part);
  const absl::StatusOr<storage::Extent> extent = next().Map(part);
  RETURN_IF_ERROR(reads_->CheckAll());
  return extent;
}

absl::StatusOr<std::unique_ptr<Placement>> SharedReadsStorage::PlaceRead(Range range) {
  if (reads_->in_use()) return nullptr;
  return next().PlaceRead(range);
}

absl::StatusOr<std::unique_ptr<Placement>> SharedReadsStorage::PlaceWrite(Range range) {
  return next().PlaceWrite(range);
}

}  // namespace tidemark::graph
