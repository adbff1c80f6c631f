// Nothing is ever changed in place. A change writes a new directory (with new tables and clusters
// for the bitmaps that have new bits) into fresh clusters, makes the header point to it, and only
// then gives back what the old directory used and the new one does not:
//
//     header ---> old directory ---> table A ---> bits          1. fresh clusters, filled
//        \                      \--> table B ---> bits          2. header written (the commit)
//         \ - - > new directory ---> table A' --> bits'         3. old directory, A, bits freed
//                               \--> table B (as before)
//
// UpdateHeader makes everything written before it durable first, so the order 1, 2 holds on the
// medium too. A stop before 2 leaks the fresh clusters, one before 3 the old ones.
#include "engine/format/qcow2/bitmaps.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>
#include <map>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/format/qcow2/limits.h"

namespace tidemark::qcow2 {
namespace {

auto ReaderOf(Image& image) {
  return [&image](uint64_t host_offset_bytes, storage::Bytes buffer) {
    return image.ReadMetadata(host_offset_bytes, buffer);
  };
}

storage::ConstBytes AsBytes(absl::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

// The bits of a bitmap's last byte that stand for granules.
uint8_t TailMask(uint64_t disk_bytes, uint32_t granularity_bits) {
  const uint64_t granules =
      (disk_bytes + (uint64_t{1} << granularity_bits) - 1) >> granularity_bits;
  return granules % 8 == 0 ? 0xff : (1u << granules % 8) - 1;
}

// Clusters taken from the image for one change. They go back unless the change is committed.
class FreshClusters {
 public:
  explicit FreshClusters(Image& image) : image_(image), geometry_(image.header().geometry) {
    // Before the first write, which would otherwise disown the bitmaps that are there.
    image.KeepAutoclearFeatures(autoclear_feature::kBitmaps);
  }
  ~FreshClusters() {
    // A failure to give back is a leak, which a check finds and repairs.
    for (const Range& range : ranges_) image_.FreeClusters(range).IgnoreError();
  }
  FreshClusters(const FreshClusters&) = delete;
  FreshClusters& operator=(const FreshClusters&) = delete;

  // Writes `data` into fresh adjacent clusters, the rest of the last filled with zeroes; returns
  // where.
  absl::StatusOr<uint64_t> Write(storage::ConstBytes data) {
    const uint64_t clusters = geometry_.ClustersFor(data.size());
    ASSIGN_OR_RETURN(const uint64_t offset_bytes, image_.AllocateClusters(clusters));
    ranges_.push_back({offset_bytes, clusters << geometry_.cluster_bits});
    RETURN_IF_ERROR(image_.WriteMetadata(offset_bytes, data));
    const std::vector<std::byte> padding(ranges_.back().length_bytes - data.size());
    if (!padding.empty()) {
      RETURN_IF_ERROR(image_.WriteMetadata(offset_bytes + data.size(), padding));
    }
    return offset_bytes;
  }

  // From here on the image may refer to them, and they stay whatever happens.
  void Keep() { ranges_.clear(); }
  // Those of a part of the change that has come about.
  void Add(FreshClusters* part) {
    ranges_.insert(ranges_.end(), part->ranges_.begin(), part->ranges_.end());
    part->ranges_.clear();
  }

 private:
  Image& image_;
  const Geometry geometry_;
  std::vector<Range> ranges_;
};

// Where the clusters of one bitmap are, but for its directory entry. Hostile tables may name a
// cluster twice.
absl::StatusOr<std::vector<Range>> ClustersOf(Image& image, const BitmapDirectoryEntry& entry) {
  const Geometry geometry = image.header().geometry;
  ASSIGN_OR_RETURN(const std::vector<uint64_t> table,
                   ReadBitmapTable(geometry, entry, ReaderOf(image)));
  std::vector<Range> ranges = {
      {entry.table_offset_bytes, geometry.RoundUp(uint64_t{entry.table_entries} * 8)}};
  for (uint64_t value : table) {
    if (value != kBitmapTableAllZeroes && value != kBitmapTableAllOnes) {
      ranges.push_back({value, geometry.cluster_bytes()});
    }
  }
  return ranges;
}

// What a committed change no longer needs. Failures are leaks, and the change has happened anyway.
void FreeOld(Image& image, Range old_directory, const std::vector<BitmapDirectoryEntry>& replaced) {
  const Geometry geometry = image.header().geometry;
  std::map<uint64_t, uint64_t> length_by_offset;
  for (const BitmapDirectoryEntry& entry : replaced) {
    const absl::StatusOr<std::vector<Range>> ranges = ClustersOf(image, entry);
    if (!ranges.ok()) continue;
    for (const Range& range : *ranges) length_by_offset[range.offset_bytes] = range.length_bytes;
  }
  if (!old_directory.empty()) {
    length_by_offset[old_directory.offset_bytes] = geometry.RoundUp(old_directory.length_bytes);
  }
  uint64_t freed_end = 0;
  for (const auto& [offset_bytes, length_bytes] : length_by_offset) {
    if (offset_bytes < freed_end) continue;
    image.FreeClusters({offset_bytes, length_bytes}).IgnoreError();
    freed_end = offset_bytes + length_bytes;
  }
}

// Makes `entries` the image's directory. `replaced` are entries of the old one whose clusters the
// new one does not share.
absl::Status Commit(Image& image, const std::vector<BitmapDirectoryEntry>& entries,
                    const std::vector<BitmapDirectoryEntry>& replaced, FreshClusters& fresh) {
  ASSIGN_OR_RETURN(const absl::optional<BitmapsExtension> old_extension,
                   FindBitmapsExtension(image.header()));
  RETURN_IF_ERROR(CheckBitmapTotals(entries));
  absl::optional<BitmapsExtension> extension;
  if (!entries.empty()) {
    const std::string bytes = SerializeBitmapDirectory(entries);
    if (bytes.size() > kBitmapDirectoryBytesMax) {
      return Error(Reason::kLimitReached,
                   absl::StrCat("cannot store ", entries.size(), " bitmaps: their directory of ",
                                bytes.size(), " bytes is longer than ", kBitmapDirectoryBytesMax));
    }
    ASSIGN_OR_RETURN(const uint64_t offset_bytes, fresh.Write(AsBytes(bytes)));
    extension.emplace();
    extension->bitmap_count = entries.size();
    extension->directory = {offset_bytes, bytes.size()};
  }
  fresh.Keep();
  RETURN_IF_ERROR(image.UpdateHeader([&extension](Header& header) {
    SetBitmapsExtension(extension, &header);
    return absl::OkStatus();
  }));
  FreeOld(image, old_extension ? old_extension->directory : Range(), replaced);
  return absl::OkStatus();
}

// The bits in clusters of the image, and a table that points to them: the entry of the directory.
// What it writes of bits is taken from `bits_bytes_left`.
absl::StatusOr<BitmapDirectoryEntry> WriteBitmap(Image& image, const BitmapToStore& bitmap,
                                                 FreshClusters& fresh, uint64_t* bits_bytes_left) {
  const Header header = image.header();
  const uint64_t cluster_bytes = header.geometry.cluster_bytes();
  BitmapDirectoryEntry entry;
  entry.name = bitmap.name;
  entry.granularity_bits = std::countr_zero(bitmap.granularity_bytes);
  entry.enabled = bitmap.enabled;
  const uint64_t total_bytes = BitmapBytesFor(header.size_bytes, entry.granularity_bits);
  // A disk of no bytes still has a table, since every bitmap has one.
  entry.table_entries = std::max<uint64_t>(1, header.geometry.ClustersFor(total_bytes));
  std::vector<uint64_t> table(entry.table_entries, kBitmapTableAllZeroes);
  const uint8_t tail_mask = TailMask(header.size_bytes, entry.granularity_bits);
  // QEMU takes "all ones" to the end of the 64-bit word, and then counts bits that do not exist.
  const bool ends_in_whole_word = tail_mask == 0xff && total_bytes % 8 == 0;
  for (uint64_t index = 0; index * cluster_bytes < total_bytes; ++index) {
    const uint64_t begin = index * cluster_bytes;
    const uint64_t length = std::min(cluster_bytes, total_bytes - begin);
    const std::string bits = bitmap.bits(begin, length);
    if (bits.size() != length) {
      return Error(
          Reason::kInvalidField,
          absl::StrCat("cannot store bitmap '", absl::Utf8SafeCEscape(bitmap.name), "': it has ",
                       bits.size(), " bytes at ", begin, " where ", length, " are needed"),
          {{"bitmap", bitmap.name}});
    }
    const bool is_last = begin + length == total_bytes;
    const uint8_t last_mask = is_last ? tail_mask : 0xff;
    const absl::string_view whole = absl::string_view(bits).substr(0, length - 1);
    const uint8_t last = static_cast<uint8_t>(bits.back()) & last_mask;
    if (last == 0 && whole.find_first_not_of('\0') == absl::string_view::npos) continue;
    if (last == last_mask && (!is_last || ends_in_whole_word) &&
        whole.find_first_not_of('\xff') == absl::string_view::npos) {
      table[index] = BigEndian(kBitmapTableAllOnes);
      continue;
    }
    if (length > *bits_bytes_left) {
      return Error(Reason::kLimitReached,
                   absl::StrCat("cannot store bitmap '", absl::Utf8SafeCEscape(bitmap.name),
                                "': the image's bitmaps would have more than ",
                                kBitmapBytesTotalMax, " bytes"),
                   {{"bitmap", bitmap.name}});
    }
    *bits_bytes_left -= length;
    ASSIGN_OR_RETURN(const uint64_t offset_bytes, fresh.Write(AsBytes(bits)));
    table[index] = BigEndian(offset_bytes);
  }
  ASSIGN_OR_RETURN(entry.table_offset_bytes,
                   fresh.Write({reinterpret_cast<const std::byte*>(table.data()),
                                table.size() * sizeof(uint64_t)}));
  return entry;
}

absl::Status CheckShape(const Header& header, absl::string_view name, uint64_t granularity_bytes,
                        uint64_t disk_bytes) {
  const std::string shown = absl::Utf8SafeCEscape(name);
  if (header.version < 3) {
    return Error(Reason::kNodeLacksFeature,
                 absl::StrCat("cannot store bitmap '", shown,
                              "' in a qcow2 image of version 2: it takes version 3"),
                 {{"bitmap", name}});
  }
  if (name.empty() || name.size() > kBitmapNameBytesMax) {
    return Error(Reason::kInvalidField,
                 absl::StrCat("cannot store bitmap '", shown, "': its name has ", name.size(),
                              " bytes, which must be 1 to ", kBitmapNameBytesMax),
                 {{"bitmap", name}});
  }
  if (!std::has_single_bit(granularity_bytes) ||
      granularity_bytes < uint64_t{1} << kBitmapGranularityBitsMin ||
      granularity_bytes > uint64_t{1} << kBitmapGranularityBitsMax) {
    return Error(Reason::kInvalidField,
                 absl::StrCat("cannot store bitmap '", shown, "': granularity ", granularity_bytes,
                              " is not a power of two between 512 and 2147483648"),
                 {{"bitmap", name}});
  }
  const uint64_t bytes = BitmapBytesFor(disk_bytes, std::countr_zero(granularity_bytes));
  if (header.geometry.RoundUp(bytes) > kBitmapBytesMax) {
    return Error(Reason::kLimitReached,
                 absl::StrCat("cannot store bitmap '", shown, "' with granularity ",
                              granularity_bytes, ": its ", bytes, " bytes are more than ",
                              kBitmapBytesMax, "; a larger granularity makes it smaller"),
                 {{"bitmap", name}});
  }
  return absl::OkStatus();
}

absl::Status CheckCount(size_t count, uint64_t directory_bytes) {
  if (count <= kBitmapsMax && directory_bytes <= kBitmapDirectoryBytesMax) return absl::OkStatus();
  return Error(Reason::kLimitReached,
               absl::StrCat("cannot store ", count, " bitmaps in a directory of ", directory_bytes,
                            " bytes: an image has room for ", kBitmapsMax, " in ",
                            kBitmapDirectoryBytesMax));
}

// Bytes of bits that are there to be read: a bitmap of uniform clusters has none.
absl::StatusOr<uint64_t> StoredBitsBytes(Image& image, const BitmapDirectoryEntry& entry) {
  const Geometry geometry = image.header().geometry;
  ASSIGN_OR_RETURN(const std::vector<uint64_t> table,
                   ReadBitmapTable(geometry, entry, ReaderOf(image)));
  const uint64_t total_bytes = BitmapBytesFor(image.header().size_bytes, entry.granularity_bits);
  uint64_t bytes = 0;
  for (uint64_t index = 0; index < table.size(); ++index) {
    const uint64_t begin = index << geometry.cluster_bits;
    if (begin >= total_bytes) break;
    if (table[index] == kBitmapTableAllZeroes || table[index] == kBitmapTableAllOnes) continue;
    bytes += std::min(geometry.cluster_bytes(), total_bytes - begin);
  }
  return bytes;
}

// An image of a few kilobytes can claim bits without end.
absl::Status CheckStoredBits(Image& image, const std::vector<StoredBitmap>& bitmaps) {
  uint64_t bytes = 0;
  for (const StoredBitmap& bitmap : bitmaps) {
    if (!bitmap.consistent()) continue;
    // A table that cannot be is told when it is read for its bits.
    bytes += StoredBitsBytes(image, bitmap.entry).value_or(0);
    if (bytes <= kBitmapBytesTotalMax) continue;
    return Error(Reason::kLimitReached,
                 absl::StrCat("the image's ", bitmaps.size(), " bitmaps have more than ",
                              kBitmapBytesTotalMax, " bytes"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<StoredBitmap>> LoadBitmaps(Image& image) {
  ASSIGN_OR_RETURN(std::vector<BitmapDirectoryEntry> entries,
                   ReadBitmapDirectory(image.header(), ReaderOf(image)));
  std::vector<StoredBitmap> bitmaps;
  bitmaps.reserve(entries.size());
  for (BitmapDirectoryEntry& entry : entries) {
    StoredBitmap& bitmap = bitmaps.emplace_back();
    bitmap.name = entry.name;
    bitmap.granularity_bytes = uint64_t{1} << entry.granularity_bits;
    bitmap.enabled = entry.enabled;
    bitmap.in_use = entry.in_use;
    bitmap.unusable = !entry.usable();
    bitmap.entry = std::move(entry);
  }
  RETURN_IF_ERROR(CheckStoredBits(image, bitmaps));
  return bitmaps;
}

absl::Status ReadBitmapBits(Image& image, const StoredBitmap& bitmap, BitsTaker take) {
  if (!bitmap.consistent()) {
    return Error(Reason::kBitmapInconsistent,
                 absl::StrCat("cannot load the bits of bitmap '",
                              absl::Utf8SafeCEscape(bitmap.name), "': they are not consistent"),
                 {{"bitmap", bitmap.name}});
  }
  const Header header = image.header();
  ASSIGN_OR_RETURN(const std::vector<uint64_t> table,
                   ReadBitmapTable(header.geometry, bitmap.entry, ReaderOf(image)));
  const uint64_t total_bytes = BitmapBytesFor(header.size_bytes, bitmap.entry.granularity_bits);
  const uint64_t cluster_bytes = header.geometry.cluster_bytes();
  std::string bits;
  for (uint64_t index = 0; index < table.size() && index * cluster_bytes < total_bytes;) {
    const uint64_t begin = index * cluster_bytes;
    const uint64_t value = table[index++];
    if (value == kBitmapTableAllZeroes) continue;
    if (value == kBitmapTableAllOnes) {
      while (index < table.size() && table[index] == kBitmapTableAllOnes) ++index;
      RETURN_IF_ERROR(
          take(begin, std::min(index * cluster_bytes, total_bytes) - begin, /*bits=*/nullptr));
      continue;
    }
    bits.resize(std::min(cluster_bytes, total_bytes - begin));
    RETURN_IF_ERROR(
        image.ReadMetadata(value, {reinterpret_cast<std::byte*>(bits.data()), bits.size()}));
    if (begin + bits.size() == total_bytes) {
      bits.back() &= static_cast<char>(TailMask(header.size_bytes, bitmap.entry.granularity_bits));
    }
    RETURN_IF_ERROR(take(begin, bits.size(), bits.data()));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> LoadBitmapBits(Image& image, const StoredBitmap& bitmap) {
  const uint64_t disk_bytes = image.header().size_bytes;
  std::string all(BitmapBytesFor(disk_bytes, bitmap.entry.granularity_bits), '\0');
  RETURN_IF_ERROR(
      ReadBitmapBits(image, bitmap, [&all](uint64_t offset, uint64_t length, const char* bits) {
        if (bits == nullptr) {
          std::memset(all.data() + offset, 0xff, length);
        } else {
          std::memcpy(all.data() + offset, bits, length);
        }
        return absl::OkStatus();
      }));
  if (!all.empty()) {
    all.back() &= static_cast<char>(TailMask(disk_bytes, bitmap.entry.granularity_bits));
  }
  return all;
}

absl::Status MarkBitmapsInUse(Image& image) {
  ASSIGN_OR_RETURN(std::vector<BitmapDirectoryEntry> entries,
                   ReadBitmapDirectory(image.header(), ReaderOf(image)));
  if (entries.empty()) return absl::OkStatus();
  bool changed = false;
  for (BitmapDirectoryEntry& entry : entries) {
    // A bitmap that nobody here may touch, and that records nothing, stays true.
    if (entry.in_use || (!entry.usable() && !entry.enabled)) continue;
    entry.in_use = true;
    changed = true;
  }
  if (!changed) {
    image.KeepAutoclearFeatures(autoclear_feature::kBitmaps);
    return absl::OkStatus();
  }
  FreshClusters fresh(image);
  return Commit(image, entries, {}, fresh);
}

absl::Status StoreBitmaps(Image& image, const std::vector<BitmapToStore>& bitmaps, StoreMode mode) {
  if (bitmaps.empty()) return absl::OkStatus();
  const Header header = image.header();
  ASSIGN_OR_RETURN(std::vector<BitmapDirectoryEntry> entries,
                   ReadBitmapDirectory(header, ReaderOf(image)));
  std::map<std::string, size_t> index_by_name;
  uint64_t directory_bytes = 0;
  for (const BitmapDirectoryEntry& entry : entries) {
    index_by_name.emplace(entry.name, index_by_name.size());
    directory_bytes += BitmapDirectoryEntryBytes(entry.name.size()) + entry.extra_data.size();
  }
  std::vector<BitmapDirectoryEntry> replaced;
  FreshClusters fresh(image);
  uint64_t bits_bytes_left = kBitmapBytesTotalMax;
  const auto store = [&](const BitmapToStore& bitmap) -> absl::Status {
    RETURN_IF_ERROR(CheckShape(header, bitmap.name, bitmap.granularity_bytes, header.size_bytes));
    const auto found = index_by_name.find(bitmap.name);
    const bool is_new = found == index_by_name.end();
    const uint64_t added_bytes = is_new ? BitmapDirectoryEntryBytes(bitmap.name.size()) : 0;
    if (is_new) RETURN_IF_ERROR(CheckCount(entries.size() + 1, directory_bytes + added_bytes));
    // What was written of a bitmap that cannot be stored goes back.
    FreshClusters own(image);
    uint64_t left = bits_bytes_left;
    ASSIGN_OR_RETURN(BitmapDirectoryEntry entry, WriteBitmap(image, bitmap, own, &left));
    bits_bytes_left = left;
    directory_bytes += added_bytes;
    fresh.Add(&own);
    if (is_new) {
      index_by_name.emplace(bitmap.name, entries.size());
      entries.push_back(std::move(entry));
      return absl::OkStatus();
    }
    BitmapDirectoryEntry& old = entries[found->second];
    if (old.usable()) {
      entry.extra_data = old.extra_data;
      entry.extra_data_compatible = old.extra_data_compatible;
    }
    replaced.push_back(std::move(old));
    old = std::move(entry);
    return absl::OkStatus();
  };
  absl::Status first;
  bool any = false;
  for (const BitmapToStore& bitmap : bitmaps) {
    const absl::Status status = store(bitmap);
    any |= status.ok();
    first.Update(status);
  }
  if (any && (first.ok() || mode == StoreMode::kWhatCanBe)) {
    first.Update(Commit(image, entries, replaced, fresh));
  }
  return first;
}

absl::Status DisownBitmaps(Image& image) {
  return image.UpdateHeader([](Header& header) {
    SetBitmapsExtension(absl::nullopt, &header);
    return absl::OkStatus();
  });
}

absl::Status RemoveStoredBitmap(Image& image, absl::string_view name) {
  ASSIGN_OR_RETURN(std::vector<BitmapDirectoryEntry> entries,
                   ReadBitmapDirectory(image.header(), ReaderOf(image)));
  const auto found = std::find_if(entries.begin(), entries.end(),
                                  [name](const auto& entry) { return entry.name == name; });
  if (found == entries.end()) return absl::OkStatus();
  const std::vector<BitmapDirectoryEntry> removed = {std::move(*found)};
  entries.erase(found);
  FreshClusters fresh(image);
  return Commit(image, entries, removed, fresh);
}

absl::Status CheckBitmapsFit(const Image& image, absl::Span<const BitmapShape> bitmaps,
                             uint64_t disk_bytes) {
  const Header header = image.header();
  uint64_t bits_bytes = 0;
  uint64_t table_bytes = 0;
  uint64_t directory_bytes = 0;
  for (const BitmapShape& bitmap : bitmaps) {
    RETURN_IF_ERROR(CheckShape(header, bitmap.name, bitmap.granularity_bytes, disk_bytes));
    const uint64_t bytes = BitmapBytesFor(disk_bytes, std::countr_zero(bitmap.granularity_bytes));
    bits_bytes += bytes;
    table_bytes += 8 * std::max<uint64_t>(1, header.geometry.ClustersFor(bytes));
    directory_bytes += BitmapDirectoryEntryBytes(bitmap.name.size());
  }
  RETURN_IF_ERROR(CheckCount(bitmaps.size(), directory_bytes));
  const auto check = [&](absl::string_view what, uint64_t bytes, uint64_t bytes_max) {
    if (bytes <= bytes_max) return absl::OkStatus();
    return Error(
        Reason::kLimitReached,
        absl::StrCat("on a disk of ", disk_bytes, " bytes the ", what, " of the image's ",
                     bitmaps.size(), " persistent bitmaps may become ", bytes, " bytes, and ",
                     bytes_max, " are allowed; larger granularities make them smaller"));
  };
  RETURN_IF_ERROR(check("bits", bits_bytes, kBitmapBytesTotalMax));
  return check("tables", table_bytes, kBitmapTableBytesTotalMax);
}

}  // namespace tidemark::qcow2
