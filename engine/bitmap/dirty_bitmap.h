// The line that Tidemark is named after: which stretches of a disk changed. One bit per granule.
//
// Thread rule: all methods are safe from any thread. Queries take no lock, and Set takes none and
// writes no memory if the granules are dirty already; all other changes of one bitmap come one
// after the other. A bit that Set made dirty (or found dirty) is seen by whatever is called after
// Set returned; and whoever clears it, or takes it, sees the data that was written before the Set.
//
// Cost: memory and time follow where clean and dirty are mixed, never the size of the disk. A
// bitmap of 512 TiB at 64 KiB that is uniform has some kilobytes. At that size
//   cheap (some thousand instructions at most): construction, SetAll, ClearAll of a uniform one,
//       Copy, Empty, CountBytes, IsEmpty, NextDirty and NextClean across uniform stretches, Merge
//       of a uniform bitmap, and Merge at one granularity into an empty one that Copy or Empty
//       made (of either);
//   by the word, where mixed: Merge, CopyWithGranularity, Serialize, ClearAll.
// Copies share their memory until one of them changes: the first change of a stretch of 32768
// granules copies its 4 KiB.
//
// Names, busy and persistence are not here: they belong to the graph, which owns bitmaps by name.
#ifndef ENGINE_BITMAP_DIRTY_BITMAP_H_
#define ENGINE_BITMAP_DIRTY_BITMAP_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "engine/base/range.h"
#include "engine/bitmap/sparse_bits.h"

namespace tidemark::bitmap {

class DirtyBitmap {
 public:
  // All clean. `granularity_bytes` is a power of two, 512 to 2^31, and there are at most
  // kGranuleCountMax granules (limits.h; CHECKed: callers validate).
  DirtyBitmap(uint64_t size_bytes, uint64_t granularity_bytes);
  // Over memory that its owner gives, such as a mapped file: dirty where `words` says so, least
  // significant bit first, and every change is in them at once. They are at least
  // WordCount(size_bytes, granularity_bytes) (CHECKed) and outlive the bitmap, and nobody else
  // changes them. It grows as far as they do. Nothing is saved where it is uniform; copies are
  // ordinary bitmaps.
  DirtyBitmap(uint64_t size_bytes, uint64_t granularity_bytes, absl::Span<uint64_t> words);
  DirtyBitmap(const DirtyBitmap&) = delete;
  DirtyBitmap& operator=(const DirtyBitmap&) = delete;

  // Granules of a disk of `size_bytes`: to be compared with kGranuleCountMax before construction.
  static uint64_t GranuleCount(uint64_t size_bytes, uint64_t granularity_bytes);
  static uint64_t WordCount(uint64_t size_bytes, uint64_t granularity_bytes);

  // The same bits at this moment: how a bitmap is frozen.
  std::unique_ptr<DirtyBitmap> Copy() const;
  // The same with other granules: each that a dirty stretch touches is dirty. INVALID_ARGUMENT if
  // the granularity cannot be, RESOURCE_EXHAUSTED if there would be too many.
  absl::StatusOr<std::unique_ptr<DirtyBitmap>> CopyWithGranularity(
      uint64_t granularity_bytes) const;
  // Where it may differ from `then`, a Copy of it that nobody has changed since: ascending, as many
  // stretches as have changed, each of at least 32768 granules. Cheap.
  std::vector<Range> ChangedSince(const DirtyBitmap& then) const;
  // As large and as fine, all clean: how a successor is made.
  std::unique_ptr<DirtyBitmap> Empty() const;

  uint64_t size_bytes() const;
  uint64_t granularity_bytes() const { return granularity_bytes_; }

  // Marks every granule that `range` touches. Ranges past the end are cut off.
  void Set(Range range);
  // Clears every granule that `range` touches: callers pass whole granules, or the tail of the
  // disk.
  void Clear(Range range);
  void SetAll();
  void ClearAll();

  bool IsDirty(uint64_t offset_bytes) const;
  bool IsEmpty() const;
  // Dirty bytes as QEMU counts them: bits times granularity, so possibly more than the disk. While
  // another thread is marking, its granules may be counted a moment early.
  uint64_t CountBytes() const;

  // The first dirty stretch that begins at or after `from_bytes` (or at it, within a dirty
  // granule), at most `length_bytes_max` long, cut at the end of the disk. Absent if there is none.
  absl::optional<Range> NextDirty(uint64_t from_bytes, uint64_t length_bytes_max) const;
  // The first clean offset at or after `from_bytes`; the disk's size if there is none.
  uint64_t NextClean(uint64_t from_bytes) const;

  // As NextDirty, and clears what it returns in the same moment: how a copy claims its work. No two
  // callers are given the same granule. Works in whole granules: `from_bytes` and
  // `length_bytes_max` are rounded down to them, the length to at least one.
  absl::optional<Range> TakeNextDirty(uint64_t from_bytes, uint64_t length_bytes_max);

  // ORs `source` in; itself is fine. Granularities may differ: every granule that a dirty stretch
  // of `source` touches becomes dirty. INVALID_ARGUMENT, and no change, if the sizes differ.
  absl::Status Merge(const DirtyBitmap& source);

  // Grown space is clean; dropped granules are forgotten, also when the disk grows back.
  // RESOURCE_EXHAUSTED, and no change, if there would be more than granule_count_max().
  absl::Status Resize(uint64_t size_bytes);
  uint64_t granule_count_max() const { return bits_->bit_count_max(); }

  // The bits, least significant first in each byte, as qcow2 stores them; exactly
  // SerializedLength() bytes: ceil(granules / 8). Unused bits of the last byte are zero.
  std::string Serialize() const;
  uint64_t SerializedLength() const;
  // Bytes [offset, offset + length) of Serialize(), cut at its end: for storing a large bitmap in
  // pieces.
  std::string SerializePart(uint64_t offset, uint64_t length) const;

  // The other way: the bits become exactly `bits`. INVALID_ARGUMENT, and no change, if the length
  // is not SerializedLength(). Bits past the last granule are ignored.
  absl::Status Deserialize(absl::string_view bits);
  // Replaces the bits of bytes [offset, offset + bits.size()). INVALID_ARGUMENT past the end.
  absl::Status DeserializePart(uint64_t offset, absl::string_view bits);

  // What QEMU's x-debug-block-dirty-bitmap-sha256 prints for the same bits, in hexadecimal.
  std::string Sha256() const;

  // Bytes it holds beside itself. What it shares with a copy is counted in full.
  uint64_t MemoryBytes() const { return bits_->memory_bytes(); }
  // What was made and copied since the first of a family of copies was: for tests, which count it.
  SparseBits::Work work() const { return bits_->work(); }

 private:
  DirtyBitmap(uint64_t size_bytes, uint64_t granularity_bytes, std::unique_ptr<SparseBits> bits);

  uint64_t granule_count() const;
  SparseBits::Stretch Touched(Range range) const;

  // Constant after construction.
  const uint64_t granularity_bytes_;
  const int granularity_shift_;
  const std::unique_ptr<SparseBits> bits_;

  // Never of more granules than `bits_` has.
  std::atomic<uint64_t> size_bytes_;
};

}  // namespace tidemark::bitmap

#endif  // ENGINE_BITMAP_DIRTY_BITMAP_H_
