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
#include <functional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
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

// Bytes [offset, offset + length) of a bitmap's bits, one bit a granule, least significant first in
// each byte, of which there are ceil(granules / 8) in all. On the thread of StoreBitmaps.
using BitsReader = std::function<std::string(uint64_t offset_bytes, uint64_t length_bytes)>;

struct BitmapToStore {
  std::string name;
  uint64_t granularity_bytes = 0;
  bool enabled = false;
  // Asked for a cluster at a time: a bitmap may be larger than what is to be held in memory.
  BitsReader bits;
};

// What storing a bitmap takes, but for its bits.
struct BitmapShape {
  std::string name;
  uint64_t granularity_bytes = 0;
};

// Bits [offset, offset + length) in bytes as BitsReader has them; null: all ones.
using BitsTaker =
    absl::FunctionRef<absl::Status(uint64_t offset_bytes, uint64_t length_bytes, const char* bits)>;

// The bitmaps of the image, in the order stored. None if the image has none, or if a program that
// does not know of bitmaps has written to it. kImageCorrupt naming the bitmap, kLimitReached: do
// not use the image then, since its bitmaps would be lost.
absl::StatusOr<std::vector<StoredBitmap>> LoadBitmaps(Image& image);

// Gives `take` those bits of a consistent bitmap that LoadBitmaps found which may be ones, a
// cluster or a uniform stretch at a time, in order. Those past the end of the disk are zero, but
// where all are ones.
absl::Status ReadBitmapBits(Image& image, const StoredBitmap& bitmap, BitsTaker take);
// The same in one piece, for small ones.
absl::StatusOr<std::string> LoadBitmapBits(Image& image, const StoredBitmap& bitmap);

// Says in the image that the bitmaps it holds are about to become stale. Without it the first write
// makes them as if they had never been.
absl::Status MarkBitmapsInUse(Image& image);

enum class StoreMode {
  kAll,        // All, or the image stays as it is.
  kWhatCanBe,  // Those that cannot be stored take no others with them.
};

// Puts `bitmaps` into the image together, each in the place of the one with its name, if any. All
// others in the image stay as they are. Tells the first error of one that cannot be stored
// (kLimitReached, kInvalidField, no space). Afterwards no write before MarkBitmapsInUse, not after
// an error either.
absl::Status StoreBitmaps(Image& image, const std::vector<BitmapToStore>& bitmaps,
                          StoreMode mode = StoreMode::kWhatCanBe);

// Makes the bitmaps in the image as if they had never been: for when MarkBitmapsInUse finds no
// room. Leaks their clusters.
absl::Status DisownBitmaps(Image& image);

// Does nothing if the image holds no such bitmap.
absl::Status RemoveStoredBitmap(Image& image, absl::string_view name);

// Whether all these bitmaps could be stored together in the image, however their bits are mixed, if
// its disk had `disk_bytes`. kNodeLacksFeature for a version 2 image, kInvalidField naming the
// value, kLimitReached.
absl::Status CheckBitmapsFit(const Image& image, absl::Span<const BitmapShape> bitmaps,
                             uint64_t disk_bytes);

}  // namespace tidemark::qcow2

#endif  // ENGINE_FORMAT_QCOW2_BITMAPS_H_
