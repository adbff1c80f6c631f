// The dirty bitmaps that an image carries with it: found, read, marked and stored. This is the
// mechanism; which bitmaps exist and when they are stored is for the graph to decide:
//
//   opened read-only        LoadBitmaps, LoadBitmapBits of those it wants
//   opened for writing      the same, then MarkBitmapsInUse before the first write
//   closed                  StoreBitmaps, then Image::Close
//
// All of it blocks on the image, so workers only, and one at a time for an image; guest requests
// may go on meanwhile. Each change is durable on return and is there as a whole or not at all,
// whenever the machine stops, because it takes effect with the header (HeaderStore::Rewrite: as
// whole as one write of that length); a crash leaks at most the clusters of the unfinished change.
#ifndef ENGINE_FORMAT_QCOW2_BITMAPS_H_
#define ENGINE_FORMAT_QCOW2_BITMAPS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/format/qcow2/bitmap_directory.h"
#include "engine/format/qcow2/image.h"

namespace tidemark::qcow2 {

// A bitmap found in an image, without its bits.
struct StoredBitmap {
  std::string name;  // 1 to 1023 bytes of any kind.
  uint64_t granularity_bytes = 0;
  // It recorded when it was stored, and is to record again.
  bool enabled = false;
  // Nobody stored it since the image was last written to: its bits are worthless.
  bool in_use = false;
  // It has extra data that only its maker understands: its bits must not be used either.
  bool unusable = false;
  BitmapDirectoryEntry entry;  // Where it is.

  bool consistent() const { return !in_use && !unusable; }
};

struct BitmapToStore {
  std::string name;
  uint64_t granularity_bytes = 0;
  bool enabled = false;
  // One bit a granule, least significant first in each byte: exactly ceil(granules / 8) bytes.
  std::string bits;
};

// The bitmaps of the image, in the order stored. None if the image has none, or if a program that
// does not know of bitmaps has written to it. kImageCorrupt naming the bitmap, kLimitReached: do
// not use the image then, since its bitmaps would be lost.
absl::StatusOr<std::vector<StoredBitmap>> LoadBitmaps(Image& image);

// The bits of a consistent bitmap that LoadBitmaps found, as BitmapToStore has them; those past the
// end of the disk are zero.
absl::StatusOr<std::string> LoadBitmapBits(Image& image, const StoredBitmap& bitmap);

// Says in the image that the bitmaps it holds are about to become stale. Without it the first write
// makes them as if they had never been.
absl::Status MarkBitmapsInUse(Image& image);

// Puts `bitmaps` into the image, each in the place of the one with its name, if any. All others in
// the image stay as they are. Afterwards no write before MarkBitmapsInUse. Errors: those of
// CheckBitmapFits, kInvalidField for bits of the wrong length; nothing is changed then.
absl::Status StoreBitmaps(Image& image, const std::vector<BitmapToStore>& bitmaps);

// Does nothing if the image holds no such bitmap.
absl::Status RemoveStoredBitmap(Image& image, absl::string_view name);

// Whether a bitmap like this could be stored in the image as it is now, beside `other_count` others
// in memory that are to be. kNodeLacksFeature for a version 2 image, kInvalidField naming the
// value, kLimitReached.
absl::Status CheckBitmapFits(const Image& image, absl::string_view name, uint64_t granularity_bytes,
                             uint32_t other_count);

}  // namespace tidemark::qcow2

#endif  // ENGINE_FORMAT_QCOW2_BITMAPS_H_
