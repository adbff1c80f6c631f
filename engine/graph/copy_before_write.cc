#include "engine/graph/copy_before_write.h"

#include "engine/base/status_macros.h"

namespace tidemark::graph {

absl::Status CopyBeforeWriteStorage::Write(uint64_t offset_bytes, storage::ConstBytes data,
                                           storage::WriteOptions options) {
  if (!options.unchanged) RETURN_IF_ERROR(captor_->Capture({offset_bytes, data.size()}));
  return next().Write(offset_bytes, data, options);
}

absl::Status CopyBeforeWriteStorage::WriteZeroes(Range range, storage::ZeroOptions options) {
  if (!options.unchanged) RETURN_IF_ERROR(captor_->Capture(range));
  return next().WriteZeroes(range, options);
}

absl::Status CopyBeforeWriteStorage::Discard(Range range) {
  RETURN_IF_ERROR(captor_->Capture(range));
  return next().Discard(range);
}

absl::StatusOr<std::unique_ptr<storage::Placement>> CopyBeforeWriteStorage::PlaceRead(Range range) {
  return next().PlaceRead(range);
}

}  // namespace tidemark::graph
