#include "engine/format/qcow2/bitmap_directory.h"

#include <algorithm>
#include <cstring>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/format/qcow2/limits.h"

namespace tidemark::qcow2 {
namespace {

// The extension: u32 bitmap count, u32 reserved, u64 directory bytes, u64 directory offset.
constexpr size_t kExtensionBytes = 24;
// An entry: u64 table offset, u32 table entries, u32 flags, u8 type, u8 granularity bits, u16 name
// bytes, u32 extra data bytes; then extra data, name, padding to eight bytes.
constexpr size_t kEntryFixedBytes = 24;
constexpr uint32_t kFlagInUse = 1;
constexpr uint32_t kFlagAuto = 2;
constexpr uint32_t kFlagExtraDataCompatible = 4;
constexpr uint32_t kFlagsKnown = kFlagInUse | kFlagAuto | kFlagExtraDataCompatible;
constexpr uint8_t kTypeDirtyTracking = 1;
constexpr uint64_t kTableOffsetMask = 0x00fffffffffffe00;

absl::Status BrokenDirectory(absl::string_view why) {
  return Error(Reason::kImageCorrupt, absl::StrCat("bitmap directory is broken: ", why));
}

absl::Status BrokenBitmap(absl::string_view name, absl::string_view why) {
  return Error(
      Reason::kImageCorrupt,
      absl::StrCat("bitmap '", absl::Utf8SafeCEscape(name), "' of the image is broken: ", why),
      {{"bitmap", name}});
}

size_t EntryBytes(size_t name_bytes, size_t extra_data_bytes) {
  return (kEntryFixedBytes + name_bytes + extra_data_bytes + 7) & ~size_t{7};
}

// One entry at the beginning of `bytes`; `used_bytes` is its length.
absl::StatusOr<BitmapDirectoryEntry> ParseEntry(absl::string_view bytes, size_t* used_bytes) {
  if (bytes.size() < kEntryFixedBytes) return BrokenDirectory("it ends within an entry");
  const uint32_t flags = LoadBigEndian<uint32_t>(bytes.data() + 12);
  const uint8_t type = bytes[16];
  const uint16_t name_bytes = LoadBigEndian<uint16_t>(bytes.data() + 18);
  const uint32_t extra_data_bytes = LoadBigEndian<uint32_t>(bytes.data() + 20);
  if (extra_data_bytes > bytes.size() || EntryBytes(name_bytes, extra_data_bytes) > bytes.size()) {
    return BrokenDirectory("an entry is longer than the directory");
  }
  *used_bytes = EntryBytes(name_bytes, extra_data_bytes);
  BitmapDirectoryEntry entry;
  entry.table_offset_bytes = LoadBigEndian<uint64_t>(bytes.data());
  entry.table_entries = LoadBigEndian<uint32_t>(bytes.data() + 8);
  entry.granularity_bits = static_cast<uint8_t>(bytes[17]);
  entry.in_use = (flags & kFlagInUse) != 0;
  entry.enabled = (flags & kFlagAuto) != 0;
  entry.extra_data_compatible = (flags & kFlagExtraDataCompatible) != 0;
  entry.extra_data = std::string(bytes.substr(kEntryFixedBytes, extra_data_bytes));
  entry.name = std::string(bytes.substr(kEntryFixedBytes + extra_data_bytes, name_bytes));
  if (entry.name.empty()) return BrokenDirectory("a bitmap has no name");
  if (entry.name.size() > kBitmapNameBytesMax) {
    return BrokenBitmap(entry.name, absl::StrCat("its name has ", name_bytes, " bytes"));
  }
  if (type != kTypeDirtyTracking) {
    return BrokenBitmap(entry.name, absl::StrCat("type ", type, " is unknown"));
  }
  if ((flags & ~kFlagsKnown) != 0) {
    return BrokenBitmap(entry.name, absl::StrCat("flags ", absl::Hex(flags), " are unknown"));
  }
  return entry;
}

absl::Status CheckEntry(const Header& header, const BitmapDirectoryEntry& entry) {
  const Geometry& geometry = header.geometry;
  if (entry.granularity_bits < kBitmapGranularityBitsMin ||
      entry.granularity_bits > kBitmapGranularityBitsMax) {
    return BrokenBitmap(entry.name,
                        absl::StrCat("granularity 2^", entry.granularity_bits, " cannot be"));
  }
  if (entry.table_offset_bytes == 0 || entry.table_offset_bytes >= kHostOffsetEnd ||
      geometry.OffsetInCluster(entry.table_offset_bytes) != 0) {
    return BrokenBitmap(entry.name,
                        absl::StrCat("table offset ", entry.table_offset_bytes, " cannot be"));
  }
  if (entry.table_entries == 0 || uint64_t{entry.table_entries} << geometry.cluster_bits >
                                      std::max(kBitmapBytesMax, geometry.cluster_bytes())) {
    return BrokenBitmap(entry.name,
                        absl::StrCat("a table of ", entry.table_entries, " entries cannot be"));
  }
  // While a bitmap is in use its disk may have been resized.
  if (entry.in_use) return absl::OkStatus();
  const uint64_t needed =
      geometry.ClustersFor(BitmapBytesFor(header.size_bytes, entry.granularity_bits));
  if (entry.table_entries != std::max<uint64_t>(1, needed)) {
    return BrokenBitmap(entry.name, absl::StrCat("its table has ", entry.table_entries,
                                                 " entries where the disk needs ", needed));
  }
  return absl::OkStatus();
}

// Tables, directory and what else has a fixed place must not share clusters: they are freed and
// written independently.
absl::Status CheckOverlaps(const Header& header, const BitmapsExtension& extension,
                           const std::vector<BitmapDirectoryEntry>& entries) {
  struct Place {
    Range range;
    absl::string_view bitmap;
  };
  const Geometry& geometry = header.geometry;
  std::vector<Place> places = {
      {{0, geometry.cluster_bytes()}, ""},
      {{header.l1_offset_bytes, uint64_t{header.l1_entries} * 8}, ""},
      {{header.refcount_table_offset_bytes,
        uint64_t{header.refcount_table_clusters} << geometry.cluster_bits},
       ""},
      {extension.directory, ""},
  };
  for (const BitmapDirectoryEntry& entry : entries) {
    places.push_back({{entry.table_offset_bytes, uint64_t{entry.table_entries} * 8}, entry.name});
  }
  std::sort(places.begin(), places.end(), [](const Place& one, const Place& other) {
    return one.range.offset_bytes < other.range.offset_bytes;
  });
  uint64_t end_bytes = 0;
  for (const Place& place : places) {
    if (place.range.empty()) continue;
    if (place.range.offset_bytes < end_bytes) {
      const std::string where =
          absl::StrCat("it lies at ", place.range.ToString(), ", over other metadata");
      return place.bitmap.empty() ? BrokenDirectory(where) : BrokenBitmap(place.bitmap, where);
    }
    end_bytes = geometry.RoundUp(place.range.end_bytes());
  }
  return absl::OkStatus();
}

}  // namespace

uint64_t BitmapBytesFor(uint64_t disk_bytes, uint32_t granularity_bits) {
  const uint64_t mask = (uint64_t{1} << granularity_bits) - 1;
  const uint64_t granules = (disk_bytes >> granularity_bits) + ((disk_bytes & mask) != 0 ? 1 : 0);
  return granules / 8 + (granules % 8 != 0 ? 1 : 0);
}

absl::StatusOr<absl::optional<BitmapsExtension>> FindBitmapsExtension(const Header& header) {
  const HeaderExtension* found = header.FindExtension(extension_type::kBitmaps);
  if (found == nullptr || (header.autoclear_features & autoclear_feature::kBitmaps) == 0) {
    return absl::optional<BitmapsExtension>();
  }
  if (found->data.size() != kExtensionBytes) {
    return BrokenDirectory(
        absl::StrCat("its header extension has ", found->data.size(), " bytes instead of 24"));
  }
  const char* data = found->data.data();
  BitmapsExtension extension;
  extension.bitmap_count = LoadBigEndian<uint32_t>(data);
  const uint32_t reserved = LoadBigEndian<uint32_t>(data + 4);
  extension.directory = {LoadBigEndian<uint64_t>(data + 16), LoadBigEndian<uint64_t>(data + 8)};
  if (reserved != 0) return BrokenDirectory("reserved bytes of its header extension are used");
  if (extension.bitmap_count == 0 || extension.bitmap_count > kBitmapsMax) {
    return BrokenDirectory(absl::StrCat(extension.bitmap_count, " bitmaps cannot be"));
  }
  const Range& directory = extension.directory;
  if (directory.length_bytes > kBitmapDirectoryBytesMax ||
      directory.length_bytes < extension.bitmap_count * EntryBytes(1, 0)) {
    return BrokenDirectory(absl::StrCat(directory.length_bytes, " bytes for ",
                                        extension.bitmap_count, " bitmaps cannot be"));
  }
  if (directory.offset_bytes == 0 || directory.offset_bytes >= kHostOffsetEnd ||
      header.geometry.OffsetInCluster(directory.offset_bytes) != 0) {
    return BrokenDirectory(absl::StrCat("offset ", directory.offset_bytes, " cannot be"));
  }
  return absl::optional<BitmapsExtension>(extension);
}

void SetBitmapsExtension(const absl::optional<BitmapsExtension>& extension, Header* header) {
  if (!extension) {
    header->RemoveExtension(extension_type::kBitmaps);
    header->autoclear_features &= ~autoclear_feature::kBitmaps;
    return;
  }
  std::string data(kExtensionBytes, '\0');
  StoreBigEndian(data.data(), extension->bitmap_count);
  StoreBigEndian(data.data() + 8, extension->directory.length_bytes);
  StoreBigEndian(data.data() + 16, extension->directory.offset_bytes);
  header->SetExtension(extension_type::kBitmaps, std::move(data));
  header->autoclear_features |= autoclear_feature::kBitmaps;
  // Small clusters may have no room for both; names of features only help to explain.
  if (!SerializeHeader(*header).ok()) header->RemoveExtension(extension_type::kFeatureNames);
}

absl::StatusOr<std::vector<BitmapDirectoryEntry>> ReadBitmapDirectory(const Header& header,
                                                                      MetadataReader read) {
  std::vector<BitmapDirectoryEntry> entries;
  ASSIGN_OR_RETURN(const absl::optional<BitmapsExtension> extension, FindBitmapsExtension(header));
  if (!extension) return entries;
  std::string bytes(extension->directory.length_bytes, '\0');
  RETURN_IF_ERROR(read(extension->directory.offset_bytes,
                       storage::Bytes(reinterpret_cast<std::byte*>(bytes.data()), bytes.size())));
  absl::string_view rest = bytes;
  entries.reserve(extension->bitmap_count);
  for (uint32_t index = 0; index < extension->bitmap_count; ++index) {
    size_t used_bytes = 0;
    ASSIGN_OR_RETURN(BitmapDirectoryEntry entry, ParseEntry(rest, &used_bytes));
    RETURN_IF_ERROR(CheckEntry(header, entry));
    entries.push_back(std::move(entry));
    rest.remove_prefix(used_bytes);
  }
  if (!rest.empty()) {
    return BrokenDirectory(absl::StrCat(rest.size(), " bytes follow its last entry"));
  }
  absl::flat_hash_set<absl::string_view> names;
  for (const BitmapDirectoryEntry& entry : entries) {
    if (!names.insert(entry.name).second) return BrokenBitmap(entry.name, "it is there twice");
  }
  RETURN_IF_ERROR(CheckBitmapTotals(entries));
  RETURN_IF_ERROR(CheckOverlaps(header, *extension, entries));
  return entries;
}

std::string SerializeBitmapDirectory(const std::vector<BitmapDirectoryEntry>& entries) {
  std::string bytes;
  for (const BitmapDirectoryEntry& entry : entries) {
    CHECK(!entry.name.empty() && entry.name.size() <= kBitmapNameBytesMax);
    const size_t begin = bytes.size();
    bytes.resize(begin + EntryBytes(entry.name.size(), entry.extra_data.size()), '\0');
    char* fixed = bytes.data() + begin;
    StoreBigEndian(fixed, entry.table_offset_bytes);
    StoreBigEndian(fixed + 8, entry.table_entries);
    StoreBigEndian<uint32_t>(fixed + 12,
                             (entry.in_use ? kFlagInUse : 0) | (entry.enabled ? kFlagAuto : 0) |
                                 (entry.extra_data_compatible ? kFlagExtraDataCompatible : 0));
    StoreBigEndian<uint8_t>(fixed + 16, kTypeDirtyTracking);
    StoreBigEndian<uint8_t>(fixed + 17, entry.granularity_bits);
    StoreBigEndian<uint16_t>(fixed + 18, entry.name.size());
    StoreBigEndian<uint32_t>(fixed + 20, entry.extra_data.size());
    char* variable = fixed + kEntryFixedBytes;
    std::memcpy(variable, entry.extra_data.data(), entry.extra_data.size());
    std::memcpy(variable + entry.extra_data.size(), entry.name.data(), entry.name.size());
  }
  return bytes;
}

absl::Status CheckBitmapTotals(const std::vector<BitmapDirectoryEntry>& entries) {
  uint64_t table_bytes = 0;
  for (const BitmapDirectoryEntry& entry : entries) {
    table_bytes += uint64_t{entry.table_entries} * 8;
  }
  if (table_bytes <= kBitmapTableBytesTotalMax) return absl::OkStatus();
  return Error(Reason::kLimitReached,
               absl::StrCat("the tables of the image's ", entries.size(), " bitmaps have ",
                            table_bytes, " bytes, more than ", kBitmapTableBytesTotalMax));
}

uint64_t BitmapDirectoryEntryBytes(size_t name_bytes) { return EntryBytes(name_bytes, 0); }

absl::StatusOr<std::vector<uint64_t>> ReadBitmapTable(const Geometry& geometry,
                                                      const BitmapDirectoryEntry& entry,
                                                      MetadataReader read) {
  std::vector<uint64_t> table(entry.table_entries);
  RETURN_IF_ERROR(
      read(entry.table_offset_bytes,
           storage::Bytes(reinterpret_cast<std::byte*>(table.data()), table.size() * 8)));
  for (uint64_t& value : table) {
    value = BigEndian(value);
    if (value == kBitmapTableAllZeroes || value == kBitmapTableAllOnes) continue;
    if ((value & ~kTableOffsetMask) != 0 || geometry.OffsetInCluster(value) != 0) {
      return BrokenBitmap(entry.name, absl::StrCat("table entry ", absl::Hex(value), " cannot be"));
    }
  }
  return table;
}

}  // namespace tidemark::qcow2
