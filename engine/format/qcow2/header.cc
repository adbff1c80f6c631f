#include "engine/format/qcow2/header.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/format/qcow2/limits.h"
#include "engine/storage/limits.h"

namespace tidemark::qcow2 {
namespace {

using storage::ConstBytes;

constexpr size_t kExtensionHeaderBytes = 8;
constexpr size_t kFeatureNameBytes = 48;  // u8 kind, u8 bit, name padded with NULs.
constexpr uint64_t kKnownIncompatible = incompatible_feature::kDirty |
                                        incompatible_feature::kCorrupt |
                                        incompatible_feature::kCompressionType;

absl::Status Corrupt(absl::string_view what) {
  return Error(Reason::kImageCorrupt, absl::StrCat("qcow2 header is broken: ", what));
}

absl::Status Unsupported(absl::string_view what) {
  return Error(Reason::kFeatureUnsupported, absl::StrCat("qcow2 image uses ", what));
}

uint32_t Load32(ConstBytes bytes, size_t offset) {
  return LoadBigEndian<uint32_t>(bytes.data() + offset);
}
uint64_t Load64(ConstBytes bytes, size_t offset) {
  return LoadBigEndian<uint64_t>(bytes.data() + offset);
}

std::string ToString(ConstBytes bytes) {
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

size_t PaddedTo8(size_t length) { return (length + 7) & ~size_t{7}; }

// The fixed fields up to the end of version 2's header.
absl::Status ParseVersion2Fields(ConstBytes bytes, Header* header) {
  header->geometry.cluster_bits = Load32(bytes, header_field::kClusterBits);
  if (header->geometry.cluster_bits < kClusterBitsMin ||
      header->geometry.cluster_bits > kClusterBitsMax) {
    return Corrupt(absl::StrCat("cluster size 2^", header->geometry.cluster_bits,
                                " is not between 2^9 and 2^21"));
  }
  header->size_bytes = Load64(bytes, header_field::kSize);
  header->crypt_method = Load32(bytes, header_field::kCryptMethod);
  header->l1_entries = Load32(bytes, header_field::kL1Entries);
  header->l1_offset_bytes = Load64(bytes, header_field::kL1TableOffset);
  header->refcount_table_offset_bytes = Load64(bytes, header_field::kRefcountTableOffset);
  header->refcount_table_clusters = Load32(bytes, header_field::kRefcountTableClusters);
  header->snapshot_count = Load32(bytes, header_field::kSnapshotCount);
  header->snapshots_offset_bytes = Load64(bytes, header_field::kSnapshotsOffset);
  return absl::OkStatus();
}

absl::Status ParseCompressionType(uint8_t type, Header* header) {
  const bool feature_set =
      (header->incompatible_features & incompatible_feature::kCompressionType) != 0;
  if (feature_set != (type != 0)) {
    return Corrupt(absl::StrCat("compression type ", type,
                                " does not agree with the compression type feature bit"));
  }
  if (type > static_cast<uint8_t>(CompressionType::kZstd)) {
    return Unsupported(absl::StrCat("unknown compression type ", type));
  }
  header->compression_type = static_cast<CompressionType>(type);
  return absl::OkStatus();
}

// What version 3 adds. Returns the header's length.
absl::StatusOr<size_t> ParseVersion3Fields(ConstBytes bytes, Header* header) {
  if (bytes.size() < header_field::kVersion3LengthMin) return Corrupt("it is cut short");
  header->incompatible_features = Load64(bytes, header_field::kIncompatibleFeatures);
  header->compatible_features = Load64(bytes, header_field::kCompatibleFeatures);
  header->autoclear_features = Load64(bytes, header_field::kAutoclearFeatures);
  header->geometry.refcount_order = Load32(bytes, header_field::kRefcountOrder);
  const size_t length = Load32(bytes, header_field::kHeaderLength);
  if (header->geometry.refcount_order > kRefcountOrderMax) {
    return Corrupt(absl::StrCat("refcount width 2^", header->geometry.refcount_order,
                                " bits is more than 64 bits"));
  }
  if (length < header_field::kVersion3LengthMin || length > bytes.size() || length % 8 != 0) {
    return Corrupt(absl::StrCat("header length ", length, " is impossible"));
  }
  uint8_t compression_type = 0;
  if (length > header_field::kCompressionType) {
    compression_type = static_cast<uint8_t>(bytes[header_field::kCompressionType]);
  }
  RETURN_IF_ERROR(ParseCompressionType(compression_type, header));
  if (length > header_field::kVersion3Length) {
    header->unknown_fields = ToString(
        bytes.subspan(header_field::kVersion3Length, length - header_field::kVersion3Length));
  }
  return length;
}

// Extensions lie in `area`, and end with a marker or with the area.
absl::Status ParseExtensions(ConstBytes area, Header* header) {
  while (area.size() >= kExtensionHeaderBytes) {
    HeaderExtension extension;
    extension.type = Load32(area, 0);
    const size_t length = Load32(area, 4);
    if (extension.type == extension_type::kEnd) break;
    area.remove_prefix(kExtensionHeaderBytes);
    if (length > area.size()) {
      return Corrupt(absl::StrCat("extension 0x", absl::Hex(extension.type), " of ", length,
                                  " bytes does not fit"));
    }
    extension.data = ToString(area.first(length));
    area.remove_prefix(std::min(PaddedTo8(length), area.size()));
    if (extension.type == extension_type::kBackingFormat) {
      if (length > kBackingFormatMax) {
        return Corrupt(absl::StrCat("backing format name of ", length, " bytes is too long"));
      }
      header->backing_format = std::move(extension.data);
      continue;
    }
    if (header->extensions.size() == kHeaderExtensionsMax) {
      return Corrupt(absl::StrCat("more than ", kHeaderExtensionsMax, " extensions"));
    }
    header->extensions.push_back(std::move(extension));
  }
  return absl::OkStatus();
}

// The name that the image itself gives to an incompatible feature, else the number of its bit.
std::string FeatureName(const Header& header, int bit) {
  const HeaderExtension* table = header.FindExtension(extension_type::kFeatureNames);
  const absl::string_view data = table != nullptr ? table->data : absl::string_view();
  for (size_t i = 0; i + kFeatureNameBytes <= data.size(); i += kFeatureNameBytes) {
    if (data[i] != 0 || data[i + 1] != bit) continue;
    absl::string_view name = data.substr(i + 2, kFeatureNameBytes - 2);
    return absl::StrCat("\"", absl::CEscape(name.substr(0, name.find('\0'))), "\" (bit ", bit, ")");
  }
  return absl::StrCat("bit ", bit);
}

absl::Status CheckSupported(const Header& header) {
  if (header.crypt_method != 0) {
    return Unsupported(
        absl::StrCat("encryption (method ", header.crypt_method, "), which is not supported"));
  }
  if ((header.incompatible_features & incompatible_feature::kExternalData) != 0) {
    return Unsupported("an external data file, which is not supported");
  }
  if ((header.incompatible_features & incompatible_feature::kExtendedL2) != 0) {
    return Unsupported("extended L2 entries, which are not supported");
  }
  std::vector<std::string> unknown;
  for (int bit = 0; bit < 64; ++bit) {
    if ((header.incompatible_features & ~kKnownIncompatible) >> bit & 1) {
      unknown.push_back(FeatureName(header, bit));
    }
  }
  if (unknown.empty()) return absl::OkStatus();
  return Unsupported(absl::StrCat("unknown features: ", absl::StrJoin(unknown, ", ")));
}

struct Table {
  absl::string_view name;
  Range range;
};

absl::Status CheckTable(const Table& table, const Geometry& geometry, uint64_t bytes_max,
                        uint64_t file_size_bytes) {
  const auto [offset, length] = table.range;
  if (length > bytes_max) {
    return Corrupt(absl::StrCat(table.name, " of ", length, " bytes is too large"));
  }
  if (length == 0) return absl::OkStatus();
  if (offset == 0 || geometry.OffsetInCluster(offset) != 0) {
    return Corrupt(absl::StrCat(table.name, " at offset ", offset, " is not at a cluster"));
  }
  if (offset >= kHostOffsetEnd || !table.range.FitsIn(geometry.RoundUp(file_size_bytes))) {
    return Corrupt(absl::StrCat(table.name, " at offset ", offset, ", ", length,
                                " bytes, is past the end of the file of ", file_size_bytes,
                                " bytes"));
  }
  return absl::OkStatus();
}

absl::Status CheckTables(const Header& header, uint64_t file_size_bytes) {
  const Geometry& geometry = header.geometry;
  if (header.size_bytes > uint64_t{INT64_MAX}) {
    return Corrupt(absl::StrCat("disk size ", header.size_bytes, " is too large"));
  }
  if (file_size_bytes >= kHostOffsetEnd) return Corrupt("the file is too large");
  if (header.l1_entries < geometry.L1EntriesFor(header.size_bytes)) {
    return Corrupt(absl::StrCat("L1 table of ", header.l1_entries,
                                " entries is too small for a disk of ", header.size_bytes,
                                " bytes"));
  }
  if (header.refcount_table_clusters == 0) return Corrupt("there is no refcount table");
  if (header.snapshot_count > kSnapshotsMax) {
    return Corrupt(absl::StrCat(header.snapshot_count, " snapshots are too many"));
  }
  const Table l1{"L1 table", {header.l1_offset_bytes, uint64_t{header.l1_entries} * 8}};
  const Table refcounts{"refcount table",
                        {header.refcount_table_offset_bytes,
                         uint64_t{header.refcount_table_clusters} * geometry.cluster_bytes()}};
  // A snapshot's entry takes 40 bytes at least.
  const Table snapshots{"snapshot table",
                        {header.snapshots_offset_bytes, uint64_t{header.snapshot_count} * 40}};
  RETURN_IF_ERROR(CheckTable(l1, geometry, kL1BytesMax, file_size_bytes));
  RETURN_IF_ERROR(CheckTable(refcounts, geometry,
                             std::max(kRefcountTableBytesMax, geometry.cluster_bytes()),
                             file_size_bytes));
  RETURN_IF_ERROR(CheckTable(snapshots, geometry, kSnapshotTableBytesMax, file_size_bytes));
  const Table* const tables[] = {&l1, &refcounts, &snapshots};
  for (size_t i = 0; i < 3; ++i) {
    for (size_t j = i + 1; j < 3; ++j) {
      const Range a = tables[i]->range.AlignedOut(geometry.cluster_bytes());
      const Range b = tables[j]->range.AlignedOut(geometry.cluster_bytes());
      if (tables[i]->range.empty() || tables[j]->range.empty() || !a.Overlaps(b)) continue;
      return Corrupt(absl::StrCat(tables[i]->name, " and ", tables[j]->name, " overlap"));
    }
  }
  return absl::OkStatus();
}

// Sets the backing file and returns where the extensions must end.
absl::StatusOr<size_t> ParseBackingFile(ConstBytes bytes, size_t header_length, Header* header) {
  const uint64_t offset = Load64(bytes, header_field::kBackingFileOffset);
  const uint64_t length = Load32(bytes, header_field::kBackingFileSize);
  if (offset == 0) return bytes.size();
  if (offset < header_length || length > kBackingFileNameMax ||
      !Range{offset, length}.FitsIn(bytes.size())) {
    return Corrupt(absl::StrCat("backing file name of ", length, " bytes at offset ", offset,
                                " is impossible"));
  }
  header->backing_file = ToString(bytes.subspan(offset, length));
  return static_cast<size_t>(offset);
}

}  // namespace

const HeaderExtension* Header::FindExtension(uint32_t type) const {
  const auto found = std::find_if(extensions.begin(), extensions.end(),
                                  [&](const auto& extension) { return extension.type == type; });
  return found == extensions.end() ? nullptr : &*found;
}

void Header::SetExtension(uint32_t type, std::string data) {
  for (HeaderExtension& extension : extensions) {
    if (extension.type != type) continue;
    extension.data = std::move(data);
    return;
  }
  extensions.push_back({type, std::move(data)});
}

void Header::RemoveExtension(uint32_t type) {
  std::erase_if(extensions, [&](const auto& extension) { return extension.type == type; });
}

bool LooksLikeQcow2(ConstBytes first_bytes) {
  return first_bytes.size() >= 4 && Load32(first_bytes, header_field::kMagic) == kMagic;
}

absl::StatusOr<Header> ParseHeader(ConstBytes bytes, uint64_t file_size_bytes) {
  if (!LooksLikeQcow2(bytes)) {
    return Error(Reason::kImageFormat, "image is not in qcow2 format");
  }
  if (bytes.size() < header_field::kVersion2End) return Corrupt("it is cut short");
  Header header;
  header.version = Load32(bytes, header_field::kVersion);
  if (header.version != 2 && header.version != 3) {
    return Unsupported(absl::StrCat("version ", header.version, " of the format"));
  }
  RETURN_IF_ERROR(ParseVersion2Fields(bytes, &header));
  bytes = bytes.first(std::min<size_t>(bytes.size(), header.geometry.cluster_bytes()));
  size_t header_length = header_field::kVersion2End;
  if (header.version >= 3) {
    ASSIGN_OR_RETURN(header_length, ParseVersion3Fields(bytes, &header));
  }
  ASSIGN_OR_RETURN(const size_t extensions_end, ParseBackingFile(bytes, header_length, &header));
  RETURN_IF_ERROR(
      ParseExtensions(bytes.subspan(header_length, extensions_end - header_length), &header));
  RETURN_IF_ERROR(CheckSupported(header));
  RETURN_IF_ERROR(CheckTables(header, file_size_bytes));
  // Before or after the end of a sector makes no difference to tables, for clusters are whole ones.
  header.size_bytes = storage::WholeSectors(header.size_bytes);
  return header;
}

absl::StatusOr<Header> ReadHeader(storage::Storage& file) {
  const uint64_t file_size_bytes = file.size_bytes();
  std::vector<std::byte> bytes(std::min<uint64_t>(file_size_bytes, uint64_t{1} << kClusterBitsMin));
  RETURN_IF_ERROR(file.Read(0, absl::MakeSpan(bytes)));
  if (LooksLikeQcow2(bytes) && bytes.size() >= header_field::kVersion2End) {
    const uint32_t cluster_bits = Load32(bytes, header_field::kClusterBits);
    if (cluster_bits > kClusterBitsMin && cluster_bits <= kClusterBitsMax) {
      bytes.resize(std::min(file_size_bytes, uint64_t{1} << cluster_bits));
      RETURN_IF_ERROR(file.Read(0, absl::MakeSpan(bytes)));
    }
  }
  return ParseHeader(bytes, file_size_bytes);
}

}  // namespace tidemark::qcow2
