#include "engine/format/qcow2/tables.h"

#include <algorithm>

#include "engine/base/check.h"
#include "engine/base/endian.h"
#include "engine/base/status_macros.h"
#include "engine/format/qcow2/limits.h"

namespace tidemark::qcow2 {

// A slice is a piece of an L2 table, at most 64 KiB, so that 2 MiB tables need not be read whole.
// It is in one of these states:
//
//   loading   in the cache, being read by the thread that put it there; others wait
//   clean     equal to the file; may be evicted
//   dirty     changed since it was last captured; stays until a checkpoint has written it
//   writing   captured by the running checkpoint; stays, since the file may still be older
//
// Dirty slices are never written but by a checkpoint, which alone knows the order (checkpoint.h).
// If all slices are dirty the cache outgrows its limit for a moment: WantsCheckpoint says so.
//
// An L2 table that L1 does not mark as copied belongs to an internal snapshot too. It is copied to
// a cluster of its own before its first change; the clusters it maps stay shared.

Tables::Tables(storage::Storage* file, storage::Storage* data_file, HeaderStore* header,
               Refcounts* refcounts, MetadataMap* metadata, Health* health, Counters* counters,
               FreeQueue* frees, uint64_t cache_bytes)
    : file_(*file),
      data_file_(*data_file),
      header_(*header),
      refcounts_(refcounts),
      metadata_(*metadata),
      health_(*health),
      counters_(*counters),
      frees_(*frees),
      geometry_(header->Get().geometry),
      entries_(geometry_, header->Get().version),
      slice_bytes_(std::min(geometry_.cluster_bytes(), kSliceBytesMax)),
      slice_coverage_bits_(std::countr_zero(slice_bytes_) - geometry_.l2_entry_bits() +
                           geometry_.cluster_bits),
      cached_slices_max_(std::max<uint64_t>(16, cache_bytes / slice_bytes_)) {}

void Tables::Put(Slice* slice, uint64_t index, const L2Entry& entry) const {
  entries_.Store(slice->bytes.data(), index, entry);
  const size_t begin = index * entries_.entry_bytes() & ~size_t{511};
  slice->MarkDirty(begin, begin + 512);
}

void Tables::Slice::MarkDirty(size_t begin, size_t end) {
  if (!dirty()) dirty_begin = begin, dirty_end = end;
  dirty_begin = std::min(dirty_begin, begin);
  dirty_end = std::max(dirty_end, end);
}

absl::Status Tables::Load() {
  const Header header = header_.Get();
  std::vector<uint64_t> l1(header.l1_entries);
  if (!l1.empty()) {
    RETURN_IF_ERROR(
        file_.Read(header.l1_offset_bytes,
                   storage::Bytes(reinterpret_cast<std::byte*>(l1.data()), l1.size() * 8)));
  }
  const uint64_t file_end = geometry_.RoundUp(file_.size_bytes());
  MutexLock lock(&mutex_);
  for (uint64_t i = 0; i < l1.size(); ++i) {
    l1[i] = BigEndian(l1[i]);
    const uint64_t host_offset = l1[i] & kEntryOffsetMask;
    if (host_offset == 0 && (l1[i] & kL1ReservedMask) == 0) {
      l1[i] = 0;
      continue;
    }
    if ((l1[i] & kL1ReservedMask) != 0 || geometry_.OffsetInCluster(host_offset) != 0 ||
        host_offset >= file_end || !metadata_.Add({host_offset, geometry_.cluster_bytes()})) {
      bad_l1_.insert(i);
    }
  }
  l1_ = std::move(l1);
  return absl::OkStatus();
}

uint64_t Tables::SliceHostOffset(uint64_t slice_number) const {
  const uint64_t offset = slice_number << slice_coverage_bits_;
  const uint64_t in_table = offset & (geometry_.l2_coverage_bytes() - 1);
  return (l1_[L1Index(offset)] & kEntryOffsetMask) +
         (in_table >> geometry_.cluster_bits) * entries_.entry_bytes();
}

// Entries that point where no cluster of data can be. Found when a slice is read, so that lookups
// cost nothing; entries we make are good.
bool Tables::IsBad(const L2Entry& entry, uint64_t file_end_bytes) const {
  if (entries_.IsMalformed(entry)) return true;
  if (entry.is_compressed()) {
    const Range host_range = geometry_.CompressedRange(entry.cluster);
    return host_range.offset_bytes < geometry_.cluster_bytes() ||
           host_range.offset_bytes >= file_end_bytes || HitsMetadata(host_range);
  }
  const uint64_t host_offset = entry.host_offset_bytes();
  if (host_offset == 0) return false;
  if (geometry_.OffsetInCluster(host_offset) != 0) return true;
  const bool is_zero = entries_.Describe(entry).content == ClusterContent::kZero;
  if (host_offset >= file_end_bytes && !is_zero) return true;
  return HitsMetadata({host_offset, geometry_.cluster_bytes()});
}

absl::Status Tables::ReadSlice(uint64_t host_offset_bytes, Slice* slice) {
  slice->bytes.resize(slice_bytes_);
  absl::Status status = file_.Read(host_offset_bytes, absl::MakeSpan(slice->bytes));
  ++counters_.l2_slices_read;
  if (!status.ok()) return status;
  const uint64_t data_end = geometry_.RoundUp(data_file_.size_bytes());
  for (uint64_t i = 0; i < slice_entries(); ++i) {
    const L2Entry entry = Get(*slice, i);
    if (!entry.empty() && IsBad(entry, data_end)) slice->bad_entries.push_back(i);
  }
  return absl::OkStatus();
}

absl::StatusOr<Tables::Slice*> Tables::FindSlice(uint64_t slice_number) {
  while (true) {
    const auto found = slices_.find(slice_number);
    if (found == slices_.end()) break;
    if (!found->second->loading) {
      found->second->recently_used = true;
      return found->second.get();
    }
    loaded_.Wait(&mutex_);
  }
  EvictForOne();
  auto owned = std::make_unique<Slice>();
  Slice* const slice = owned.get();
  slice->loading = true;
  slices_[slice_number] = std::move(owned);
  eviction_order_.push_back(slice_number);
  const uint64_t host_offset = SliceHostOffset(slice_number);
  mutex_.Unlock();
  const absl::Status status = ReadSlice(host_offset, slice);
  mutex_.Lock();
  slice->loading = false;
  loaded_.SignalAll();
  if (status.ok()) return slice;
  slices_.erase(slice_number);
  std::erase(eviction_order_, slice_number);
  return status;
}

void Tables::EvictForOne() {
  size_t looked_at = 0;
  while (slices_.size() >= cached_slices_max_ && looked_at < 2 * eviction_order_.size()) {
    ++looked_at;
    if (eviction_hand_ >= eviction_order_.size()) eviction_hand_ = 0;
    const uint64_t number = eviction_order_[eviction_hand_];
    Slice& slice = *slices_[number];
    if (slice.loading || slice.writing || slice.dirty() ||
        std::exchange(slice.recently_used, false)) {
      ++eviction_hand_;
      continue;
    }
    slices_.erase(number);
    eviction_order_[eviction_hand_] = eviction_order_.back();
    eviction_order_.pop_back();
  }
}

Mapping Tables::Describe(const L2Entry& entry) const {
  Mapping mapping;
  if (entry.is_compressed()) {
    mapping.kind = Mapping::Kind::kCompressed;
    mapping.compressed_entry = entry.cluster;
    return mapping;
  }
  mapping.host_offset_bytes = entry.host_offset_bytes();
  mapping.owned = entry.is_owned();
  const ClusterContent content = entries_.Describe(entry).content;
  if (content == ClusterContent::kZero) {
    mapping.kind = Mapping::Kind::kZero;
  } else if (content == ClusterContent::kData) {
    mapping.kind = Mapping::Kind::kData;
  }
  return mapping;
}

absl::StatusOr<Mapping> Tables::Lookup(Range range) {
  MutexLock lock(&mutex_);
  const uint64_t l1_index = L1Index(range.offset_bytes);
  CHECK(l1_index < l1_.size());
  if (!bad_l1_.empty() && bad_l1_.contains(l1_index)) {
    return health_.Corrupt(
        absl::StrCat("L1 entry ", l1_index, " is impossible: 0x", absl::Hex(l1_[l1_index])));
  }
  if (l1_[l1_index] == 0) {
    Mapping mapping;
    uint64_t index = l1_index + 1;
    const uint64_t coverage = geometry_.l2_coverage_bytes();
    while (index < l1_.size() && index * coverage < range.end_bytes() && l1_[index] == 0) ++index;
    mapping.range =
        Range::FromTo(range.offset_bytes, std::min(range.end_bytes(), index * coverage));
    return mapping;
  }
  ASSIGN_OR_RETURN(const Slice* const slice, FindSlice(range.offset_bytes >> slice_coverage_bits_));
  return WalkSlice(range, *slice);
}

absl::StatusOr<Mapping> Tables::WalkSlice(Range range, const Slice& slice) {
  const uint32_t cluster_bits = geometry_.cluster_bits;
  const uint64_t first = (range.offset_bytes >> cluster_bits) & (slice_entries() - 1);
  const uint64_t end = std::min(range.end_bytes(), SetEndBytes(range.offset_bytes));
  // The end may be that of the address space; the last cluster is what counts.
  const uint64_t count = ((end - 1) >> cluster_bits) - (range.offset_bytes >> cluster_bits) + 1;
  uint64_t bad = slice_entries();
  if (!slice.bad_entries.empty()) {
    const auto found = std::lower_bound(slice.bad_entries.begin(), slice.bad_entries.end(), first);
    if (found != slice.bad_entries.end()) bad = *found;
  }
  if (bad == first) {
    return health_.Corrupt(absl::StrCat("the L2 entry for disk offset ", range.offset_bytes,
                                        " is impossible: 0x",
                                        absl::Hex(Get(slice, first).cluster)));
  }
  Mapping mapping = Describe(Get(slice, first));
  // Entries that are not bad have no bits but those that a mapping tells.
  const uint64_t clusters =
      entries_.CountAlike(slice.bytes.data(), first, std::min(first + count, bad));
  const uint64_t begin = geometry_.RoundDown(range.offset_bytes);
  mapping.range =
      Range::FromTo(range.offset_bytes, std::min(end, begin + (clusters << cluster_bits)));
  if (mapping.host_offset_bytes != 0) mapping.host_offset_bytes += range.offset_bytes - begin;
  return mapping;
}

absl::Status Tables::Set(uint64_t offset_bytes, absl::Span<const L2Entry> entries) {
  const uint64_t l1_index = L1Index(offset_bytes);
  const uint64_t slice_number = offset_bytes >> slice_coverage_bits_;
  const uint64_t first = (offset_bytes >> geometry_.cluster_bits) & (slice_entries() - 1);
  CHECK(first + entries.size() <= slice_entries());
  RETURN_IF_ERROR(health_.CheckWritable());
  std::vector<L2Entry> old_entries(entries.size());
  while (true) {
    mutex_.Lock();
    const bool table_is_ours = (l1_[l1_index] & kEntryCopied) != 0 && !bad_l1_.contains(l1_index);
    if (table_is_ours) break;
    mutex_.Unlock();
    RETURN_IF_ERROR(MakeTable(l1_index));
  }
  absl::StatusOr<Slice*> slice = FindSlice(slice_number);
  if (!slice.ok()) {
    mutex_.Unlock();
    return slice.status();
  }
  for (size_t i = 0; i < entries.size(); ++i) {
    old_entries[i] = Get(**slice, first + i);
    if (old_entries[i] != entries[i]) Put(*slice, first + i, entries[i]);
  }
  if ((*slice)->dirty()) dirty_slices_.insert(slice_number);
  mutex_.Unlock();
  for (size_t i = 0; i < entries.size(); ++i) Release(old_entries[i], entries[i]);
  return absl::OkStatus();
}

void Tables::Release(const L2Entry& old_entry, const L2Entry& new_entry) {
  if (old_entry.is_compressed()) {
    frees_.Add(geometry_.CompressedRange(old_entry.cluster));
    return;
  }
  const uint64_t old_offset = old_entry.host_offset_bytes();
  if (old_offset == 0) return;
  if (!new_entry.is_compressed() && new_entry.host_offset_bytes() == old_offset) return;
  frees_.Add({old_offset, geometry_.cluster_bytes()});
}

absl::Status Tables::MakeTable(uint64_t l1_index) {
  MutexLock making(&making_);
  uint64_t old_entry;
  {
    MutexLock lock(&mutex_);
    old_entry = l1_[l1_index];
    if (bad_l1_.contains(l1_index)) {
      return health_.Corrupt(
          absl::StrCat("L1 entry ", l1_index, " is impossible: 0x", absl::Hex(old_entry)));
    }
  }
  if ((old_entry & kEntryCopied) != 0) return absl::OkStatus();
  const uint64_t old_offset = old_entry & kEntryOffsetMask;
  ASSIGN_OR_RETURN(const Refcounts::Allocation allocation, refcounts_->Allocate(1));
  const Range host_range = allocation.host_range;
  absl::Status status = FillTable(old_offset, host_range);
  if (status.ok() && !metadata_.Add(host_range)) {
    status = health_.Corrupt("free clusters hold metadata");
  }
  if (!status.ok()) {
    (void)refcounts_->Release(host_range);
    return status;
  }
  {
    MutexLock lock(&mutex_);
    l1_[l1_index] = host_range.offset_bytes | kEntryCopied;
    // Also where a dropped table was sent to the file: this one was not.
    dirty_l1_[l1_index] = false;
    if (old_offset == 0 && slice_bytes_ == geometry_.cluster_bytes()) {
      EvictForOne();
      auto slice = std::make_unique<Slice>();
      slice->bytes.resize(slice_bytes_);
      slice->MarkDirty(0, slice_bytes_);
      slices_[l1_index] = std::move(slice);
      eviction_order_.push_back(l1_index);
      dirty_slices_.insert(l1_index);
    }
  }
  if (old_offset != 0) {
    metadata_.Remove({old_offset, geometry_.cluster_bytes()});
    frees_.Add({old_offset, geometry_.cluster_bytes()});
  }
  return absl::OkStatus();
}

// A table of one slice begins its life in the cache; others begin in the file, where nothing refers
// to them until a checkpoint has made them durable.
absl::Status Tables::FillTable(uint64_t old_host_offset_bytes, Range new_host_range) {
  if (old_host_offset_bytes == 0) {
    if (slice_bytes_ == geometry_.cluster_bytes()) return absl::OkStatus();
    return file_.WriteZeroes(new_host_range, {});
  }
  std::vector<std::byte> table(geometry_.cluster_bytes());
  RETURN_IF_ERROR(file_.Read(old_host_offset_bytes, absl::MakeSpan(table)));
  return file_.Write(new_host_range.offset_bytes, table, {});
}

bool Tables::WantsCheckpoint() const {
  MutexLock lock(&mutex_);
  return dirty_slices_.size() > cached_slices_max_ / 2;
}

}  // namespace tidemark::qcow2
