// A copy of a bitmap at another granularity for a moment that is still to come: most of the work is
// done ahead, and at the moment itself only what has changed since costs anything.
//
// Thread rule: as the bitmap, but Make takes its time: a worker.
#ifndef ENGINE_BITMAP_EARLY_COPY_H_
#define ENGINE_BITMAP_EARLY_COPY_H_

#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "engine/bitmap/dirty_bitmap.h"

namespace tidemark::bitmap {

class EarlyCopy {
 public:
  // Refused as DirtyBitmap::CopyWithGranularity is.
  static absl::StatusOr<std::unique_ptr<EarlyCopy>> Make(const DirtyBitmap& source,
                                                         uint64_t granularity_bytes);

  uint64_t granularity_bytes() const { return granularity_bytes_; }
  // What `source`, the same or another bitmap that took its place, holds at this moment. Cheap if
  // little of it has changed since Make, or if it shares its memory. Once.
  absl::StatusOr<std::unique_ptr<DirtyBitmap>> Finish(const DirtyBitmap& source);

 private:
  EarlyCopy(std::unique_ptr<DirtyBitmap> then, std::unique_ptr<DirtyBitmap> copy)
      : granularity_bytes_(copy->granularity_bytes()),
        then_(std::move(then)),
        copy_(std::move(copy)) {}

  const uint64_t granularity_bytes_;
  // The source as it was, and that with the other granules.
  const std::unique_ptr<DirtyBitmap> then_;
  std::unique_ptr<DirtyBitmap> copy_;
};

}  // namespace tidemark::bitmap

#endif  // ENGINE_BITMAP_EARLY_COPY_H_
