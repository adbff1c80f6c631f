// The line that Tidemark is named after: which stretches of a disk changed. One bit per granule.
//
// Thread rule: all methods are safe from any thread; Set takes no lock and hardly touches memory if
// the granules are dirty already, so it can follow every guest write. A bit that Set made dirty (or
// found dirty) is seen by whatever is called after Set returned. Only Resize is special.
//
// Names, busy and persistence are not here: they belong to the graph, which owns bitmaps by name.
#ifndef ENGINE_BITMAP_DIRTY_BITMAP_H_
#define ENGINE_BITMAP_DIRTY_BITMAP_H_

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "engine/base/mutex.h"
#include "engine/base/range.h"

namespace tidemark::bitmap {

class DirtyBitmap {
 public:
  // All clean. `granularity_bytes` is a power of two, 512 to 2^31, and there are at most
  // kGranuleCountMax granules (limits.h; CHECKed: callers validate). Memory is used for touched
  // parts only.
  DirtyBitmap(uint64_t size_bytes, uint64_t granularity_bytes);
  ~DirtyBitmap();
  DirtyBitmap(const DirtyBitmap&) = delete;
  DirtyBitmap& operator=(const DirtyBitmap&) = delete;

  // Granules of a disk of `size_bytes`: to be compared with kGranuleCountMax before construction.
  static uint64_t GranuleCount(uint64_t size_bytes, uint64_t granularity_bytes);

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
  // of `source` touches becomes dirty. Sizes must be equal (CHECKed; callers validate and name the
  // bitmaps).
  void Merge(const DirtyBitmap& source);

  // Grown space is clean; dropped granules are forgotten, also when the disk grows back. Callers
  // see to it that nothing marks or clears meanwhile; queries may.
  void Resize(uint64_t size_bytes);

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

 private:
  // An array of bits that is never moved; a larger one takes its place at most once per doubling.
  struct Table;

  // A stretch of granules: [begin, end).
  struct Granules {
    uint64_t begin;
    uint64_t end;
  };

  uint64_t granule_count() const;
  Granules Touched(Range range) const;
  void SetGranules(Granules granules);
  void ClearGranules(Granules granules) ABSL_EXCLUSIVE_LOCKS_REQUIRED(clearing_mutex_);
  // The first granule at or after `from` and before `end` that is dirty (or clean); `end` if none.
  uint64_t FindDirty(uint64_t from, uint64_t end) const;
  uint64_t FindClean(uint64_t from, uint64_t end) const;
  uint64_t* words() const;

  // Constant after construction.
  const uint64_t granularity_bytes_;
  const int granularity_shift_;

  // Read without a lock.
  std::atomic<Table*> table_;
  std::atomic<uint64_t> size_bytes_;
  // Never less than the number of dirty granules: raised before a bit is set, lowered after one is
  // cleared.
  std::atomic<uint64_t> dirty_count_ = 0;

  // Held by whoever clears bits or changes tables, so that a claim is never split.
  Mutex clearing_mutex_;
  // Kept until the end, because readers may still be in an old one.
  std::vector<std::unique_ptr<Table>> tables_ ABSL_GUARDED_BY(clearing_mutex_);
};

}  // namespace tidemark::bitmap

#endif  // ENGINE_BITMAP_DIRTY_BITMAP_H_
