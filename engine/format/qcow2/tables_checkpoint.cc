// How tables get to the file: the part of Tables that checkpoints and resizing use.

#include <algorithm>

#include "engine/base/check.h"
#include "engine/base/endian.h"
#include "engine/base/status_macros.h"
#include "engine/format/qcow2/tables.h"

namespace tidemark::qcow2 {

Tables::Captured Tables::Capture() {
  Captured captured;
  std::vector<uint64_t> numbers;
  {
    // L1 first: every table that a captured L1 entry refers to has been in the cache, dirty, or in
    // the file since before.
    MutexLock lock(&mutex_);
    for (const auto& [index, sent] : dirty_l1_) captured.l1_entries.emplace_back(index, l1_[index]);
    numbers.assign(dirty_slices_.begin(), dirty_slices_.end());
  }
  std::sort(captured.l1_entries.begin(), captured.l1_entries.end());
  std::sort(numbers.begin(), numbers.end());
  captured.parts.reserve(numbers.size());
  for (const uint64_t number : numbers) {
    // One slice at a time, so that lookups are not kept waiting.
    MutexLock lock(&mutex_);
    const auto found = slices_.find(number);
    if (found == slices_.end()) continue;
    Slice& slice = *found->second;
    const auto sent = dirty_l1_.find(L1Index(number << slice_coverage_bits_));
    captured.parts.push_back(
        {.slice_number = number,
         .host_offset_bytes = SliceHostOffset(number),
         .begin = slice.dirty_begin,
         .bytes = {slice.bytes.begin() + slice.dirty_begin, slice.bytes.begin() + slice.dirty_end},
         .unpublished = sent != dirty_l1_.end() && !sent->second});
    slice.writing = true;
    slice.dirty_begin = slice.dirty_end = 0;
    dirty_slices_.erase(number);
  }
  return captured;
}

absl::Status Tables::WriteUnpublished(const Captured& captured) {
  for (const Captured::SlicePart& part : captured.parts) {
    if (!part.unpublished) continue;
    RETURN_IF_ERROR(file_.Write(part.host_offset_bytes + part.begin, part.bytes, {}));
    counters_.l2_bytes_written += part.bytes.size();
  }
  return absl::OkStatus();
}

absl::Status Tables::WritePublished(const Captured& captured) {
  for (const Captured::SlicePart& part : captured.parts) {
    if (part.unpublished) continue;
    RETURN_IF_ERROR(file_.Write(part.host_offset_bytes + part.begin, part.bytes, {}));
    counters_.l2_bytes_written += part.bytes.size();
  }
  const uint64_t l1_offset = header_.Get().l1_offset_bytes;
  const auto& entries = captured.l1_entries;
  for (size_t i = 0; i < entries.size();) {
    size_t end = i + 1;
    while (end < entries.size() && entries[end].first == entries[end - 1].first + 1) ++end;
    std::vector<uint64_t> run;
    {
      MutexLock lock(&mutex_);
      for (size_t j = i; j < end; ++j) {
        run.push_back(BigEndian(entries[j].second));
        const auto sent = dirty_l1_.find(entries[j].first);
        if (sent != dirty_l1_.end() && l1_[entries[j].first] == entries[j].second) {
          sent->second = true;
        }
      }
    }
    RETURN_IF_ERROR(file_.Write(
        l1_offset + entries[i].first * 8,
        storage::ConstBytes(reinterpret_cast<const std::byte*>(run.data()), run.size() * 8), {}));
    i = end;
  }
  return absl::OkStatus();
}

void Tables::Finish(const Captured& captured, bool durable) {
  MutexLock lock(&mutex_);
  for (const Captured::SlicePart& part : captured.parts) {
    const auto found = slices_.find(part.slice_number);
    if (found == slices_.end()) continue;
    found->second->writing = false;
    if (durable) continue;
    found->second->MarkDirty(part.begin, part.begin + part.bytes.size());
    dirty_slices_.insert(part.slice_number);
  }
  if (!durable) return;
  for (const auto& [index, entry] : captured.l1_entries) {
    if (index < l1_.size() && l1_[index] == entry) dirty_l1_.erase(index);
  }
}

absl::Status Tables::GrowL1(uint64_t entries) {
  const Header header = header_.Get();
  if (entries <= header.l1_entries) return absl::OkStatus();
  if (entries * 8 > kL1BytesMax) {
    return Error(Reason::kFeatureUnsupported,
                 absl::StrCat("an L1 table of ", entries, " entries is too large"));
  }
  const uint64_t old_bytes = geometry_.RoundUp(uint64_t{header.l1_entries} * 8);
  const uint64_t new_bytes = geometry_.RoundUp(entries * 8);
  ASSIGN_OR_RETURN(const Refcounts::Allocation allocation,
                   refcounts_->AllocateAdjacent(new_bytes >> geometry_.cluster_bits));
  const Range host_range = allocation.host_range;
  std::vector<uint64_t> l1;
  {
    MutexLock lock(&mutex_);
    l1 = l1_;
  }
  std::transform(l1.begin(), l1.end(), l1.begin(), BigEndian<uint64_t>);
  l1.resize(new_bytes / 8);
  absl::Status status = file_.Write(
      host_range.offset_bytes,
      storage::ConstBytes(reinterpret_cast<const std::byte*>(l1.data()), new_bytes), {});
  if (status.ok()) status = refcounts_->WriteBack();
  if (status.ok()) status = file_.Flush();
  if (!status.ok()) {
    (void)refcounts_->Release(host_range);
    return status;
  }
  RETURN_IF_ERROR(header_.Patch([&](Header& patched) {
    patched.l1_offset_bytes = host_range.offset_bytes;
    patched.l1_entries = static_cast<uint32_t>(entries);
  }));
  {
    MutexLock lock(&mutex_);
    l1_.resize(entries);
  }
  const Range old_range = {header.l1_offset_bytes, old_bytes};
  metadata_.Remove(old_range);
  if (!metadata_.Add(host_range)) return health_.Corrupt("free clusters hold metadata");
  return refcounts_->Release(old_range);
}

absl::Status Tables::DropTables(uint64_t offset_bytes) {
  std::vector<Range> dropped;
  {
    MutexLock lock(&mutex_);
    for (uint64_t index = L1Index(offset_bytes); index < l1_.size(); ++index) {
      if (l1_[index] == 0) continue;
      if (bad_l1_.contains(index)) {
        return health_.Corrupt(
            absl::StrCat("L1 entry ", index, " is impossible: 0x", absl::Hex(l1_[index])));
      }
      dropped.push_back({l1_[index] & kEntryOffsetMask, geometry_.cluster_bytes()});
      l1_[index] = 0;
      dirty_l1_.emplace(index, true);
    }
    const uint64_t first_slice = offset_bytes >> slice_coverage_bits_;
    const auto is_dropped = [&](uint64_t number) { return number >= first_slice; };
    absl::erase_if(slices_, [&](const auto& slice) { return is_dropped(slice.first); });
    absl::erase_if(dirty_slices_, is_dropped);
    std::erase_if(eviction_order_, is_dropped);
  }
  for (const Range& host_range : dropped) {
    metadata_.Remove(host_range);
    frees_.Add(host_range);
  }
  return absl::OkStatus();
}

}  // namespace tidemark::qcow2
