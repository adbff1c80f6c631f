#include "engine/bitmap/early_copy.h"

#include <algorithm>

#include "absl/types/optional.h"
#include "engine/base/range.h"
#include "engine/base/status_macros.h"

namespace tidemark::bitmap {

absl::StatusOr<std::unique_ptr<EarlyCopy>> EarlyCopy::Make(const DirtyBitmap& source,
                                                           uint64_t granularity_bytes) {
  std::unique_ptr<DirtyBitmap> then = source.Copy();
  ASSIGN_OR_RETURN(std::unique_ptr<DirtyBitmap> copy, then->CopyWithGranularity(granularity_bytes));
  // Not make_unique: the constructor is private.
  return std::unique_ptr<EarlyCopy>(new EarlyCopy(std::move(then), std::move(copy)));
}

absl::StatusOr<std::unique_ptr<DirtyBitmap>> EarlyCopy::Finish(const DirtyBitmap& source) {
  const uint64_t granularity_bytes = granularity_bytes_;
  if (source.granularity_bytes() == granularity_bytes ||
      source.granularity_bytes() != then_->granularity_bytes() ||
      source.size_bytes() != then_->size_bytes()) {
    return source.CopyWithGranularity(granularity_bytes);
  }
  for (Range range : source.ChangedSince(*then_)) {
    // Whole granules of the copy: what a granule shares with its neighbours is looked at anew.
    const uint64_t end = (range.end_bytes() + granularity_bytes - 1) & ~(granularity_bytes - 1);
    range = Range::FromTo(range.offset_bytes & ~(granularity_bytes - 1),
                          std::min(end, source.size_bytes()));
    copy_->Clear(range);
    while (const absl::optional<Range> dirty =
               source.NextDirty(range.offset_bytes, range.length_bytes)) {
      if (dirty->offset_bytes >= range.end_bytes()) break;
      copy_->Set(
          Range::FromTo(dirty->offset_bytes, std::min(dirty->end_bytes(), range.end_bytes())));
      range = Range::FromTo(std::min(dirty->end_bytes(), range.end_bytes()), range.end_bytes());
      if (range.empty()) break;
    }
  }
  return std::move(copy_);
}

}  // namespace tidemark::bitmap
