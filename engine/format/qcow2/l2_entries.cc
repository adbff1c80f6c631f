#include "engine/format/qcow2/l2_entries.h"

#include "engine/base/endian.h"

namespace tidemark::qcow2 {
namespace {

constexpr uint64_t kAllAllocated = 0x00000000ffffffff;
constexpr uint64_t kAllZero = 0xffffffff00000000;

}  // namespace

L2Entry L2Entries::Load(const std::byte* table, uint64_t index) const {
  const std::byte* const at = table + index * entry_bytes();
  L2Entry entry{LoadBigEndian<uint64_t>(at)};
  if (geometry_.extended_l2) entry.subclusters = LoadBigEndian<uint64_t>(at + 8);
  return entry;
}

void L2Entries::Store(std::byte* table, uint64_t index, const L2Entry& entry) const {
  std::byte* const at = table + index * entry_bytes();
  StoreBigEndian(at, entry.cluster);
  if (geometry_.extended_l2) StoreBigEndian(at + 8, entry.subclusters);
}

L2Entry L2Entries::Data(uint64_t host_offset_bytes) const {
  return {kEntryCopied | host_offset_bytes, geometry_.extended_l2 ? kAllAllocated : 0};
}

L2Entry L2Entries::Zero() const {
  return geometry_.extended_l2 ? L2Entry{0, kAllZero} : L2Entry{kEntryZero, 0};
}

L2Entry L2Entries::KeptZero(uint64_t host_offset_bytes) const {
  L2Entry entry = Zero();
  entry.cluster |= kEntryCopied | host_offset_bytes;
  return entry;
}

L2Entry L2Entries::Next(const L2Entry& entry) const {
  L2Entry next = entry;
  if (next.host_offset_bytes() != 0) next.cluster += geometry_.cluster_bytes();
  return next;
}

uint64_t L2Entries::CountAlike(const std::byte* table, uint64_t first, uint64_t end) const {
  L2Entry expected = Load(table, first);
  if (expected.is_compressed()) return 1;
  expected = Next(expected);
  uint64_t at = first + 1;
  if (geometry_.extended_l2) {
    for (; at < end && Load(table, at) == expected; ++at) expected = Next(expected);
    return at - first;
  }
  // Plain numbers: every lookup comes here, at each level of a backing chain.
  const uint64_t step = expected.host_offset_bytes() != 0 ? geometry_.cluster_bytes() : 0;
  uint64_t cluster = expected.cluster;
  for (; at < end && LoadBigEndian<uint64_t>(table + at * 8) == cluster; cluster += step) ++at;
  return at - first;
}

ClusterContent L2Entries::ContentOf(const L2Entry& entry, uint32_t subcluster) const {
  const bool has_place = entry.host_offset_bytes() != 0;
  if (!geometry_.extended_l2) {
    if ((entry.cluster & kEntryZero) != 0) return ClusterContent::kZero;
    return has_place ? ClusterContent::kData : ClusterContent::kUnallocated;
  }
  const bool is_allocated = (entry.subclusters >> subcluster & 1) != 0;
  const bool is_zero = (entry.subclusters >> (32 + subcluster) & 1) != 0;
  if (is_allocated && (is_zero || !has_place)) return ClusterContent::kImpossible;
  if (is_zero) return ClusterContent::kZero;
  return is_allocated ? ClusterContent::kData : ClusterContent::kUnallocated;
}

L2Entries::Run L2Entries::Describe(const L2Entry& entry, uint32_t first) const {
  const uint32_t count = geometry_.subclusters_per_cluster();
  // A compressed cluster is one whole.
  if (entry.is_compressed()) return {ClusterContent::kCompressed, count};
  Run run = {ContentOf(entry, first), first + 1};
  while (run.end < count && ContentOf(entry, run.end) == run.content) ++run.end;
  return run;
}

bool L2Entries::IsMalformed(const L2Entry& entry) const {
  if (entry.is_compressed()) return entry.subclusters != 0;
  if ((entry.cluster & kL2ReservedMask) != 0) return true;
  // With extended entries the subclusters say zero, and the bit is reserved.
  const bool bit_is_legal = has_zeroes_ && !geometry_.extended_l2;
  if ((entry.cluster & kEntryZero) != 0 && !bit_is_legal) return true;
  for (uint32_t at = 0; at < geometry_.subclusters_per_cluster();) {
    const Run run = Describe(entry, at);
    if (run.content == ClusterContent::kImpossible) return true;
    at = run.end;
  }
  return false;
}

}  // namespace tidemark::qcow2
