// The line that Tidemark is named after: which stretches of a disk changed. One bit per granule.
//
// Thread rule: all methods are safe from any thread; marking is cheap enough for every guest write.
// Names, busy and persistence are not here: they belong to the graph, which owns bitmaps by name.
// This is the set of bits, and whether it records.
#ifndef ENGINE_BITMAP_DIRTY_BITMAP_H_
#define ENGINE_BITMAP_DIRTY_BITMAP_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/optional.h"
#include "engine/base/mutex.h"
#include "engine/base/range.h"

namespace tidemark::bitmap {

class DirtyBitmap {
 public:
  // All clean. `granularity_bytes` is a power of two, 512 to 2^31 (CHECKed: callers validate).
  DirtyBitmap(uint64_t size_bytes, uint64_t granularity_bytes);

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
  // Dirty bytes as QEMU counts them: bits times granularity, so possibly more than the disk [B59].
  uint64_t CountBytes() const;

  // The first dirty stretch that begins at or after `from_bytes`, at most `length_bytes_max` long,
  // cut at the end of the disk. Absent if there is none.
  absl::optional<Range> NextDirty(uint64_t from_bytes, uint64_t length_bytes_max) const;
  // The first clean offset at or after `from_bytes`; the disk's size if there is none.
  uint64_t NextClean(uint64_t from_bytes) const;

  // As NextDirty, and clears what it returns in the same moment: how a copy claims its work.
  absl::optional<Range> TakeNextDirty(uint64_t from_bytes, uint64_t length_bytes_max);

  // ORs `source` in. Granularities may differ [B71]. FAILED_PRECONDITION-free: sizes must be equal
  // (CHECKed; callers validate and name the bitmaps).
  void Merge(const DirtyBitmap& source);

  // Grown space is clean; dropped granules are forgotten [B82].
  void Resize(uint64_t size_bytes);

  // The bits, least significant first in each byte, as qcow2 and NBD-independent storage keep them;
  // the length is exactly ceil(granules / 8).
  std::string Serialize() const;
  // The other way; INVALID_ARGUMENT if the length does not fit.
  absl::Status Deserialize(const std::string& bits);

  // What QEMU's x-debug-block-dirty-bitmap-sha256 prints for the same bits, in hexadecimal.
  std::string Sha256() const;

 private:
  const uint64_t granularity_bytes_;

  mutable Mutex mutex_;
  uint64_t size_bytes_ ABSL_GUARDED_BY(mutex_);
  std::vector<uint64_t> words_ ABSL_GUARDED_BY(mutex_);
  uint64_t dirty_count_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace tidemark::bitmap

#endif  // ENGINE_BITMAP_DIRTY_BITMAP_H_
