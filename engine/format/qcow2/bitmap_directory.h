// The directory of the bitmaps extension: which bitmaps an image holds and where their tables are.
// Parsed from hostile bytes, and serialised. Plain values and pure functions; any thread.
//
//   header extension -> directory (an entry a bitmap) -> bitmap table -> clusters of bits
#ifndef ENGINE_FORMAT_QCOW2_BITMAP_DIRECTORY_H_
#define ENGINE_FORMAT_QCOW2_BITMAP_DIRECTORY_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "engine/base/range.h"
#include "engine/format/qcow2/header.h"
#include "engine/storage/storage.h"

namespace tidemark::qcow2 {

// Reads bytes of the image file: a storage's Read, or an image's ReadMetadata.
using MetadataReader =
    absl::FunctionRef<absl::Status(uint64_t host_offset_bytes, storage::Bytes buffer)>;

struct BitmapDirectoryEntry {
  std::string name;  // 1 to 1023 bytes of any kind.
  uint32_t granularity_bits = 16;
  uint64_t table_offset_bytes = 0;
  uint32_t table_entries = 0;  // One for each cluster of bits.
  bool in_use = false;
  bool enabled = false;  // The format's "auto" flag.
  // The bits may be used by those who do not know what the extra data means.
  bool extra_data_compatible = false;
  std::string extra_data;

  // Nobody here knows any extra data.
  bool usable() const { return extra_data.empty() || extra_data_compatible; }
};

// What the header says about the directory.
struct BitmapsExtension {
  uint32_t bitmap_count = 0;
  Range directory;  // In the file, without padding to the cluster.
};

// Absent if the header has no such extension, or if the autoclear bit says that somebody who did
// not know of it has changed the image: nothing it points to is to be trusted then. kImageCorrupt
// for values that cannot be.
absl::StatusOr<absl::optional<BitmapsExtension>> FindBitmapsExtension(const Header& header);

// Changes the header's extension and autoclear bit to say this; absent removes both. Drops the
// names of features if the header would be too long for its cluster with them.
void SetBitmapsExtension(const absl::optional<BitmapsExtension>& extension, Header* header);

// The entries of the directory that `header` points to, in the order stored; none if
// FindBitmapsExtension has none. Checked: sizes, flags, limits, that no name is there twice, and
// that directory and tables lie in clusters of their own. kImageCorrupt naming the bitmap.
absl::StatusOr<std::vector<BitmapDirectoryEntry>> ReadBitmapDirectory(const Header& header,
                                                                      MetadataReader read);

// The other way. The entries are the caller's, so within the limits (CHECKed).
std::string SerializeBitmapDirectory(const std::vector<BitmapDirectoryEntry>& entries);

// kLimitReached if their tables are more than one image may make us read.
absl::Status CheckBitmapTotals(const std::vector<BitmapDirectoryEntry>& entries);

// Of an entry without extra data.
uint64_t BitmapDirectoryEntryBytes(size_t name_bytes);

// Entries of a bitmap table; any other is the offset of a cluster of bits.
inline constexpr uint64_t kBitmapTableAllZeroes = 0;
inline constexpr uint64_t kBitmapTableAllOnes = 1;

// The table that `entry` (of ReadBitmapDirectory) points to. kImageCorrupt naming the bitmap.
absl::StatusOr<std::vector<uint64_t>> ReadBitmapTable(const Geometry& geometry,
                                                      const BitmapDirectoryEntry& entry,
                                                      MetadataReader read);

// Bytes of the bits of a disk of `disk_bytes`, eight granules each.
uint64_t BitmapBytesFor(uint64_t disk_bytes, uint32_t granularity_bits);

}  // namespace tidemark::qcow2

#endif  // ENGINE_FORMAT_QCOW2_BITMAP_DIRECTORY_H_
