// The header of a qcow2 image with its extensions: parsed, judged, and serialised. A plain value;
// any thread.
#ifndef ENGINE_FORMAT_QCOW2_HEADER_H_
#define ENGINE_FORMAT_QCOW2_HEADER_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "engine/format/qcow2/layout.h"
#include "engine/storage/storage.h"

namespace tidemark::qcow2 {

struct HeaderExtension {
  uint32_t type = 0;
  std::string data;  // Without the padding.
};

struct Header {
  uint32_t version = 3;
  Geometry geometry;
  uint64_t size_bytes = 0;  // Of the virtual disk.
  uint32_t crypt_method = 0;
  uint32_t l1_entries = 0;
  uint64_t l1_offset_bytes = 0;
  uint64_t refcount_table_offset_bytes = 0;
  uint32_t refcount_table_clusters = 0;
  uint32_t snapshot_count = 0;
  uint64_t snapshots_offset_bytes = 0;
  // Zero in version 2.
  uint64_t incompatible_features = 0;
  uint64_t compatible_features = 0;
  uint64_t autoclear_features = 0;
  CompressionType compression_type = CompressionType::kZlib;
  // Bytes of the fixed header past those we know, kept as they are.
  std::string unknown_fields;
  // Empty: none. As stored, so a relative name is relative to the image.
  std::string backing_file;
  // The backing format extension; absent if the header has none.
  absl::optional<std::string> backing_format;
  // All other extensions (bitmaps, feature names, unknown ones) in file order.
  std::vector<HeaderExtension> extensions;

  // The first extension of `type`; null if there is none.
  const HeaderExtension* FindExtension(uint32_t type) const;
  // Replaces the first extension of `type`, or appends it.
  void SetExtension(uint32_t type, std::string data);
  void RemoveExtension(uint32_t type);
};

// Reads and parses the header of the image in `file`. Every size and offset is checked against the
// limits, alignment, the file's reach and each other, but nothing the header points to is read.
// kImageFormat: not qcow2 at all. kFeatureUnsupported: names what we do not have (encryption,
// external data file, extended L2, unknown incompatible features by the name the image gives them).
// kImageCorrupt: values that cannot be.
absl::StatusOr<Header> ReadHeader(storage::Storage& file);

// The same on bytes: `bytes` is the first cluster (or the whole file if that is shorter).
absl::StatusOr<Header> ParseHeader(storage::ConstBytes bytes, uint64_t file_size_bytes);

// The bytes to write at offset 0: whole sectors, never more than a cluster. `header` says what
// features are set; the feature name table is written as found in `extensions`. INVALID_ARGUMENT if
// it does not fit in a cluster or the backing file name is too long.
absl::StatusOr<std::vector<std::byte>> SerializeHeader(const Header& header);

// The feature name table that a newly made version 3 image should carry: names for the bits we
// know.
HeaderExtension FeatureNameTable();

// True if the bytes begin as a qcow2 (any version) image does.
bool LooksLikeQcow2(storage::ConstBytes first_bytes);

}  // namespace tidemark::qcow2

#endif  // ENGINE_FORMAT_QCOW2_HEADER_H_
