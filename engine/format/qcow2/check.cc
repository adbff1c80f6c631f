// Every reference in the image adds one to the count of the cluster it points to; then each count
// is compared with the refcount on disk. Two things keep memory and time within bounds:
//
// Windows. Counts are held for a window of the file's clusters at a time, and all references are
// walked again for the next. Nearly every image fits into the first.
//
// Weights. Snapshots share L2 tables with the disk and each other. An L2 table is read once in a
// window, and whatever it refers to counts as often as L1 tables refer to it. So the work follows
// the size of the file, not the number of paths through it: a file of a few kilobytes can have
// billions of those.
#include "engine/format/qcow2/check.h"

#include <algorithm>
#include <limits>
#include <map>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/format/qcow2/bitmap_directory.h"
#include "engine/format/qcow2/header.h"
#include "engine/format/qcow2/limits.h"
#include "engine/format/qcow2/snapshots.h"

namespace tidemark::qcow2 {
namespace {

constexpr uint64_t kCountMax = std::numeric_limits<uint32_t>::max();
constexpr uint64_t kTableEntryBytes = 8;
constexpr uint64_t kRefcountTableReservedMask = 0x1ff;

std::string Hex(uint64_t value) { return absl::StrCat("0x", absl::Hex(value)); }

// How often an L2 table is referred to.
struct L2Use {
  uint64_t offset_bytes = 0;
  uint64_t weight = 0;
  // Of those, by the disk as it is now.
  uint64_t active_weight = 0;
};

class Checker {
 public:
  Checker(storage::Storage& file, Header header)
      : file_(file),
        header_(std::move(header)),
        geometry_(header_.geometry),
        file_bytes_(file.size_bytes()) {}

  absl::StatusOr<CheckResult> Run();

 private:
  // What is walked once.
  absl::Status ReadInventory();
  absl::Status ReadL1Table(Range place, uint64_t weight, bool is_active, absl::string_view whose);
  absl::Status ReadSnapshots();
  absl::Status ReadBitmaps();
  absl::Status ReadRefcountTable();
  uint64_t CoveredClusters() const;

  // What is walked for each window.
  absl::Status CheckWindow(uint64_t begin_cluster, uint64_t end_cluster);
  absl::Status LoadRefcounts();
  absl::Status CountL2Table(const L2Use& use);
  void CountL2Entry(const L2Use& use, uint64_t index, uint64_t entry, uint64_t* expected_bytes);
  void CheckCopied(uint64_t entry, uint64_t weight, absl::string_view what);
  void CompareCounts();

  // True for what the image may refer to at all.
  bool IsInFile(Range range) const;
  void Count(Range range, uint64_t weight);
  bool InWindow(uint64_t cluster) const { return cluster >= begin_ && cluster - begin_ < size_; }
  // Counted in the first window only, since each window sees the same entries.
  void FoundInEntry(uint64_t weight, std::string what) {
    if (begin_ == 0) Found(&result_.corruptions, weight, std::move(what));
  }
  void Found(uint64_t* counter, uint64_t weight, std::string what) {
    *counter += weight;
    if (result_.findings.size() < kCheckFindingsMax) result_.findings.push_back(std::move(what));
  }

  storage::Storage& file_;
  const Header header_;
  const Geometry geometry_;
  const uint64_t file_bytes_;

  CheckResult result_;
  // References from anything but L2 tables, and how many. Sorted tables of small size.
  std::vector<std::pair<Range, uint64_t>> references_;
  std::vector<L2Use> l2_uses_;
  // The disk's own L1 entries, whose COPIED flag must be right.
  std::vector<uint64_t> active_l1_;
  std::vector<uint64_t> refcount_table_;
  uint64_t l1_bytes_read_ = 0;
  absl::flat_hash_map<uint64_t, L2Use> l2_by_offset_;

  // After all clusters that are covered by refcount blocks, and those seen to be used.
  uint64_t end_ = 0;

  // The window: clusters begin_ to begin_ + size_.
  uint64_t begin_ = 0;
  uint64_t size_ = 0;
  std::vector<uint32_t> counts_;
  std::vector<uint32_t> refcounts_;
};

absl::Status TooMuch(absl::string_view what) {
  return Error(Reason::kLimitReached, absl::StrCat("cannot check the image: it has ", what));
}

// The last cluster may end after the file does, as long as it begins before.
bool Checker::IsInFile(Range range) const {
  return range.FitsIn(kHostOffsetEnd) &&
         range.end_bytes() < file_bytes_ + geometry_.cluster_bytes();
}

void Checker::Count(Range range, uint64_t weight) {
  if (range.empty()) return;
  end_ = std::max(end_, geometry_.ClustersFor(range.end_bytes()));
  const uint64_t first = std::max(range.offset_bytes >> geometry_.cluster_bits, begin_);
  const uint64_t last =
      std::min((range.end_bytes() - 1) >> geometry_.cluster_bits, begin_ + size_ - 1);
  for (uint64_t cluster = first; cluster <= last && size_ > 0; ++cluster) {
    uint32_t& count = counts_[cluster - begin_];
    count = std::min(kCountMax, count + weight);
  }
}

absl::Status Checker::ReadL1Table(Range place, uint64_t weight, bool is_active,
                                  absl::string_view whose) {
  if (place.empty()) return absl::OkStatus();
  if (!IsInFile(place)) {
    FoundInEntry(weight, absl::StrCat("L1 table of ", whose, " at ", Hex(place.offset_bytes),
                                      " is not in the file"));
    return absl::OkStatus();
  }
  references_.push_back({place, weight});
  l1_bytes_read_ += place.length_bytes;
  if (l1_bytes_read_ > kCheckL1BytesMax) return TooMuch("too many L1 tables");
  std::vector<uint64_t> table(place.length_bytes / kTableEntryBytes);
  RETURN_IF_ERROR(file_.Read(place.offset_bytes, {reinterpret_cast<std::byte*>(table.data()),
                                                  table.size() * kTableEntryBytes}));
  for (uint64_t index = 0; index < table.size(); ++index) {
    const uint64_t entry = BigEndian(table[index]);
    table[index] = entry;
    if (entry == 0) continue;
    const std::string name = absl::StrCat("L1 entry ", index, " of ", whose, ", ", Hex(entry), ",");
    if ((entry & kL1ReservedMask) != 0) {
      FoundInEntry(weight, absl::StrCat(name, " has reserved bits set"));
    }
    const Range l2_table = {entry & kEntryOffsetMask, geometry_.cluster_bytes()};
    if (l2_table.offset_bytes == 0) continue;
    if (geometry_.OffsetInCluster(l2_table.offset_bytes) != 0 || !IsInFile(l2_table)) {
      FoundInEntry(weight, absl::StrCat(name, " points to no cluster of the file"));
      table[index] = 0;
      continue;
    }
    L2Use& use = l2_by_offset_[l2_table.offset_bytes];
    use.weight += weight;
    if (is_active) use.active_weight += weight;
    if (l2_by_offset_.size() > kCheckL2TablesMax) return TooMuch("too many L2 tables");
  }
  if (is_active) active_l1_ = std::move(table);
  return absl::OkStatus();
}

absl::Status Checker::ReadSnapshots() {
  const absl::StatusOr<SnapshotTable> table =
      ReadSnapshotTable(header_, [this](uint64_t offset_bytes, storage::Bytes buffer) {
        return file_.Read(offset_bytes, buffer);
      });
  if (!table.ok()) {
    if (!absl::IsDataLoss(table.status())) return table.status();
    Found(&result_.corruptions, 1, std::string(table.status().message()));
    return absl::OkStatus();
  }
  references_.push_back({{header_.snapshots_offset_bytes, table->length_bytes}, 1});
  // Snapshots may share a whole L1 table in a broken image: it is read once.
  std::map<std::pair<uint64_t, uint32_t>, std::pair<uint64_t, std::string>> uses;
  for (const Snapshot& snapshot : table->snapshots) {
    const std::string whose = absl::StrCat("snapshot '", snapshot.name, "'");
    if (geometry_.OffsetInCluster(snapshot.l1_offset_bytes) != 0 ||
        uint64_t{snapshot.l1_entries} * kTableEntryBytes > kL1BytesMax) {
      Found(&result_.corruptions, 1, absl::StrCat("L1 table of ", whose, " cannot be"));
      continue;
    }
    auto& [weight, name] = uses[{snapshot.l1_offset_bytes, snapshot.l1_entries}];
    ++weight;
    name = whose;
  }
  for (const auto& [place, use] : uses) {
    RETURN_IF_ERROR(ReadL1Table({place.first, uint64_t{place.second} * kTableEntryBytes}, use.first,
                                false, use.second));
  }
  return absl::OkStatus();
}

absl::Status Checker::ReadBitmaps() {
  const auto read = [this](uint64_t offset_bytes, storage::Bytes buffer) {
    return file_.Read(offset_bytes, buffer);
  };
  const auto extension = FindBitmapsExtension(header_);
  const auto entries = ReadBitmapDirectory(header_, read);
  if (!extension.ok() || !entries.ok()) {
    const absl::Status status = extension.ok() ? entries.status() : extension.status();
    if (!absl::IsDataLoss(status)) return status;
    Found(&result_.corruptions, 1, std::string(status.message()));
    return absl::OkStatus();
  }
  if (!*extension) return absl::OkStatus();
  references_.push_back({(*extension)->directory, 1});
  for (const BitmapDirectoryEntry& entry : *entries) {
    references_.push_back({{entry.table_offset_bytes, entry.table_entries * kTableEntryBytes}, 1});
    const auto table = ReadBitmapTable(geometry_, entry, read);
    if (!table.ok()) {
      if (!absl::IsDataLoss(table.status())) return table.status();
      Found(&result_.corruptions, 1, std::string(table.status().message()));
      continue;
    }
    for (uint64_t value : *table) {
      if (value == kBitmapTableAllZeroes || value == kBitmapTableAllOnes) continue;
      references_.push_back({{value, geometry_.cluster_bytes()}, 1});
    }
  }
  return absl::OkStatus();
}

absl::Status Checker::ReadRefcountTable() {
  const Range place = {header_.refcount_table_offset_bytes,
                       uint64_t{header_.refcount_table_clusters} << geometry_.cluster_bits};
  references_.push_back({place, 1});
  refcount_table_.resize(place.length_bytes / kTableEntryBytes);
  RETURN_IF_ERROR(
      file_.Read(place.offset_bytes,
                 {reinterpret_cast<std::byte*>(refcount_table_.data()), place.length_bytes}));
  for (uint64_t index = 0; index < refcount_table_.size(); ++index) {
    uint64_t& entry = refcount_table_[index];
    entry = BigEndian(entry);
    if (entry == 0) continue;
    const Range block = {entry & kRefcountTableOffsetMask, geometry_.cluster_bytes()};
    if ((entry & kRefcountTableReservedMask) != 0 ||
        geometry_.OffsetInCluster(block.offset_bytes) != 0 || !IsInFile(block)) {
      Found(&result_.corruptions, 1,
            absl::StrCat("refcount table entry ", index, ", ", Hex(entry),
                         ", points to no cluster of the file"));
      entry = 0;
      continue;
    }
    references_.push_back({block, 1});
  }
  return absl::OkStatus();
}

absl::Status Checker::ReadInventory() {
  references_.push_back({{0, geometry_.cluster_bytes()}, 1});
  RETURN_IF_ERROR(
      ReadL1Table({header_.l1_offset_bytes, uint64_t{header_.l1_entries} * kTableEntryBytes}, 1,
                  true, "the disk"));
  RETURN_IF_ERROR(ReadSnapshots());
  RETURN_IF_ERROR(ReadBitmaps());
  RETURN_IF_ERROR(ReadRefcountTable());
  for (const auto& [range, weight] : references_) {
    if (IsInFile(range)) continue;
    Found(&result_.corruptions, weight,
          absl::StrCat("metadata at ", Hex(range.offset_bytes), " is not in the file"));
  }
  references_.erase(std::remove_if(references_.begin(), references_.end(),
                                   [this](const auto& use) { return !IsInFile(use.first); }),
                    references_.end());
  for (auto& [offset_bytes, use] : l2_by_offset_) {
    use.offset_bytes = offset_bytes;
    l2_uses_.push_back(use);
  }
  l2_by_offset_.clear();
  std::sort(l2_uses_.begin(), l2_uses_.end(), [](const L2Use& one, const L2Use& other) {
    return one.offset_bytes < other.offset_bytes;
  });
  return absl::OkStatus();
}

// The first cluster after all that refcount blocks cover. A sparse file can be much longer.
uint64_t Checker::CoveredClusters() const {
  for (uint64_t index = refcount_table_.size(); index > 0; --index) {
    if (refcount_table_[index - 1] != 0) return index << geometry_.refcount_block_bits();
  }
  return 1;
}

absl::Status Checker::LoadRefcounts() {
  const uint64_t per_block = geometry_.refcounts_per_block();
  std::vector<std::byte> block(geometry_.cluster_bytes());
  for (uint64_t cluster = begin_; cluster < begin_ + size_;) {
    const uint64_t index = cluster >> geometry_.refcount_block_bits();
    const uint64_t end = std::min(begin_ + size_, (index + 1) << geometry_.refcount_block_bits());
    if (index >= refcount_table_.size()) break;
    if (refcount_table_[index] == 0) {
      cluster = end;
      continue;
    }
    RETURN_IF_ERROR(
        file_.Read(refcount_table_[index] & kRefcountTableOffsetMask, absl::MakeSpan(block)));
    for (; cluster < end; ++cluster) {
      refcounts_[cluster - begin_] =
          std::min(kCountMax,
                   LoadRefcount(block.data(), cluster & (per_block - 1), geometry_.refcount_order));
    }
  }
  return absl::OkStatus();
}

void Checker::CheckCopied(uint64_t entry, uint64_t weight, absl::string_view what) {
  const uint64_t cluster = (entry & kEntryOffsetMask) >> geometry_.cluster_bits;
  if (weight == 0 || !InWindow(cluster)) return;
  const uint32_t refcount = refcounts_[cluster - begin_];
  if ((refcount == 1) == ((entry & kEntryCopied) != 0)) return;
  Found(&result_.corruptions, weight,
        absl::StrCat(what, " entry ", Hex(entry), " has a COPIED flag that contradicts refcount ",
                     refcount));
}

void Checker::CountL2Entry(const L2Use& use, uint64_t index, uint64_t entry,
                           uint64_t* expected_bytes) {
  const auto found = [&](absl::string_view what) {
    FoundInEntry(use.weight, absl::StrCat("L2 entry ", index, " of the table at ",
                                          Hex(use.offset_bytes), ", ", Hex(entry), ", ", what));
  };
  const bool counts_as_allocated = begin_ == 0 && use.active_weight > 0;
  if ((entry & kEntryCompressed) != 0) {
    const Range range = geometry_.CompressedRange(entry);
    if ((entry & kEntryCopied) != 0) found("is compressed and has the COPIED flag");
    if (counts_as_allocated) {
      ++result_.allocated_clusters;
      ++result_.compressed_clusters;
      ++result_.fragmented_clusters;
    }
    if (!IsInFile(range)) return found("is not in the file");
    return Count(range, use.weight);
  }
  if ((entry & kL2ReservedMask) != 0) found("has reserved bits set");
  const Range range = {entry & kEntryOffsetMask, geometry_.cluster_bytes()};
  if (range.offset_bytes == 0) return;
  if (geometry_.OffsetInCluster(range.offset_bytes) != 0) return found("is not aligned");
  if (!IsInFile(range)) {
    found("is not in the file");
    // What is not there is not counted.
    if ((entry & kEntryCopied) != 0) found("has a COPIED flag that contradicts refcount 0");
    return;
  }
  if (counts_as_allocated) {
    ++result_.allocated_clusters;
    if (*expected_bytes != 0 && range.offset_bytes != *expected_bytes) {
      ++result_.fragmented_clusters;
    }
    *expected_bytes = range.end_bytes();
  }
  Count(range, use.weight);
  CheckCopied(entry, use.active_weight, "L2");
}

absl::Status Checker::CountL2Table(const L2Use& use) {
  const Range place = {use.offset_bytes, geometry_.cluster_bytes()};
  Count(place, use.weight);
  if (place.FitsIn(file_bytes_)) {
    ASSIGN_OR_RETURN(const storage::Extent extent, file_.Map(place));
    if (extent.content == storage::Extent::Content::kZero && extent.range == place) {
      return absl::OkStatus();
    }
  }
  std::vector<std::byte> table(geometry_.cluster_bytes());
  RETURN_IF_ERROR(file_.Read(use.offset_bytes, absl::MakeSpan(table)));
  uint64_t expected_bytes = 0;
  for (uint64_t index = 0; index < geometry_.l2_entries(); ++index) {
    const uint64_t entry = LoadBigEndian<uint64_t>(table.data() + index * kTableEntryBytes);
    if (entry != 0) CountL2Entry(use, index, entry, &expected_bytes);
  }
  return absl::OkStatus();
}

void Checker::CompareCounts() {
  for (uint64_t index = 0; index < size_; ++index) {
    const uint32_t used = counts_[index];
    const uint32_t counted = refcounts_[index];
    if (used != 0 || counted != 0) {
      result_.image_end_offset_bytes = (begin_ + index + 1) << geometry_.cluster_bits;
    }
    if (used == counted) continue;
    Found(counted > used ? &result_.leaks : &result_.corruptions, 1,
          absl::StrCat("cluster ", begin_ + index, " is used ", used, " times, its refcount is ",
                       counted));
  }
}

absl::Status Checker::CheckWindow(uint64_t begin_cluster, uint64_t end_cluster) {
  begin_ = begin_cluster;
  size_ = end_cluster - begin_cluster;
  counts_.assign(size_, 0);
  refcounts_.assign(size_, 0);
  RETURN_IF_ERROR(LoadRefcounts());
  for (const auto& [range, weight] : references_) Count(range, weight);
  for (uint64_t entry : active_l1_) {
    if ((entry & kEntryOffsetMask) != 0) CheckCopied(entry, 1, "L1");
  }
  for (const L2Use& use : l2_uses_) RETURN_IF_ERROR(CountL2Table(use));
  for (uint64_t entry : refcount_table_) {
    const uint64_t cluster = (entry & kRefcountTableOffsetMask) >> geometry_.cluster_bits;
    if (entry != 0 && InWindow(cluster) && counts_[cluster - begin_] != 1) {
      Found(&result_.corruptions, 1,
            absl::StrCat("the refcount block in cluster ", cluster, " is used ",
                         counts_[cluster - begin_], " times"));
    }
  }
  CompareCounts();
  return absl::OkStatus();
}

absl::StatusOr<CheckResult> Checker::Run() {
  RETURN_IF_ERROR(ReadInventory());
  result_.total_clusters = geometry_.ClustersFor(header_.size_bytes);
  const uint64_t file_clusters = geometry_.ClustersFor(file_bytes_);
  end_ = CoveredClusters();
  int windows = 0;
  // The first window finds out how far references go.
  for (uint64_t begin = 0; begin < std::min(end_, file_clusters);) {
    if (++windows > kCheckWindowsMax) return TooMuch("too many clusters");
    const uint64_t end = std::min({end_, file_clusters, begin + kCheckWindowClusters});
    RETURN_IF_ERROR(CheckWindow(begin, end));
    begin = end;
  }
  return std::move(result_);
}

}  // namespace

absl::StatusOr<CheckResult> Check(storage::Storage& file) {
  ASSIGN_OR_RETURN(Header header, ReadHeader(file));
  return Checker(file, std::move(header)).Run();
}

}  // namespace tidemark::qcow2
