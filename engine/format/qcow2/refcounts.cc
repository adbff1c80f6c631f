#include "engine/format/qcow2/refcounts.h"

#include <algorithm>

#include "engine/base/check.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/format/qcow2/limits.h"

namespace tidemark::qcow2 {

// Free clusters are taken lowest first, in runs. Where a block of counts is missing, all the
// clusters it would count are free; when one of them is wanted, the block is made in the first of
// them, so that it counts itself and nothing else has to be found. That breaks a run once per block
// (every 2 GiB at 64 KiB clusters). What needs a long run for sure (tables) and a larger refcount
// table go to the end of the file instead, behind all the blocks that are missing to count them.

Refcounts::Refcounts(storage::Storage* file, HeaderStore* header, MetadataMap* metadata,
                     Health* health, Counters* counters)
    : file_(*file),
      metadata_(*metadata),
      health_(*health),
      counters_(*counters),
      geometry_(header->Get().geometry),
      blocks_(file, header, metadata, health, counters) {}

absl::Status Refcounts::Load() {
  MutexLock lock(&mutex_);
  RETURN_IF_ERROR(blocks_.Load());
  written_end_ = geometry_.ClustersFor(file_.size_bytes());
  ASSIGN_OR_RETURN(used_end_, ScanUsedEnd(blocks_.capacity() << geometry_.refcount_block_bits()));
  written_end_ = std::max(written_end_, used_end_);
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> Refcounts::ScanUsedEnd(uint64_t cluster_limit) {
  // A hostile table can list any number of empty blocks: then any upper bound will do.
  constexpr int kBlocksReadMax = 64;
  int blocks_read = 0;
  uint64_t index = cluster_limit >> geometry_.refcount_block_bits();
  if (index < blocks_.capacity()) ++index;
  while (index-- > 0) {
    if (!blocks_.exists(index)) continue;
    const uint64_t first = index << geometry_.refcount_block_bits();
    if (blocks_read++ == kBlocksReadMax) return first + geometry_.refcounts_per_block();
    ASSIGN_OR_RETURN(RefcountBlocks::Block* const block, blocks_.Find(index));
    for (uint64_t i = block->size(); i-- > 0;) {
      if (block->Get(i) != 0) return first + i + 1;
    }
  }
  return 0;
}

absl::StatusOr<uint64_t> Refcounts::UsedEndBytes() {
  MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(used_end_, ScanUsedEnd(used_end_));
  return used_end_ << geometry_.cluster_bits;
}

// Makes a block in the free cluster `cluster`, which it counts itself or which a block counts that
// exists. That one is in the cache before the new one is made, so that nothing can fail between its
// making and its being counted.
absl::Status Refcounts::CreateBlock(uint64_t index, uint64_t cluster) {
  const uint64_t counting_index = cluster >> geometry_.refcount_block_bits();
  if (counting_index != index) RETURN_IF_ERROR(blocks_.Find(counting_index).status());
  RETURN_IF_ERROR(blocks_.Create(index, cluster << geometry_.cluster_bits).status());
  return Take(cluster, 1);
}

// The first free cluster from `cluster` on. Its block exists.
absl::StatusOr<uint64_t> Refcounts::FindFree(uint64_t cluster) {
  const uint32_t block_bits = geometry_.refcount_block_bits();
  while (true) {
    if (cluster >= kHostOffsetEnd >> geometry_.cluster_bits) {
      return Error(Reason::kNoSpace, "qcow2 image has no free clusters within reach");
    }
    const uint64_t index = cluster >> block_bits;
    if (index >= blocks_.capacity()) {
      RETURN_IF_ERROR(GrowTable(index + 1));
      continue;
    }
    if (!blocks_.exists(index)) {
      RETURN_IF_ERROR(CreateBlock(index, index << block_bits));
      continue;
    }
    if (blocks_.MayHaveFree(index)) {
      ASSIGN_OR_RETURN(RefcountBlocks::Block* const block, blocks_.Find(index));
      const uint64_t in_block = geometry_.refcounts_per_block() - 1;
      for (uint64_t i = cluster & in_block; i <= in_block; ++i) {
        if (block->Get(i) == 0) return (index << block_bits) + i;
      }
    }
    cluster = (index + 1) << block_bits;
  }
}

// How many adjacent clusters from `cluster` on are free, up to `clusters_max`, and have a block.
absl::StatusOr<uint64_t> Refcounts::CountFree(uint64_t cluster, uint64_t clusters_max) {
  uint64_t count = 0;
  while (count < clusters_max) {
    const uint64_t index = (cluster + count) >> geometry_.refcount_block_bits();
    if (index >= blocks_.capacity() || !blocks_.exists(index)) break;
    ASSIGN_OR_RETURN(RefcountBlocks::Block* const block, blocks_.Find(index));
    uint64_t i = (cluster + count) & (geometry_.refcounts_per_block() - 1);
    for (; i < block->size() && count < clusters_max; ++i, ++count) {
      if (block->Get(i) != 0) return count;
    }
  }
  return count;
}

// What was taken before an error is leaked.
absl::Status Refcounts::Take(uint64_t first_cluster, uint64_t clusters) {
  for (uint64_t cluster = first_cluster; cluster < first_cluster + clusters;) {
    const uint64_t index = cluster >> geometry_.refcount_block_bits();
    ASSIGN_OR_RETURN(RefcountBlocks::Block* const block, blocks_.Find(index));
    uint64_t i = cluster & (geometry_.refcounts_per_block() - 1);
    for (; i < block->size() && cluster < first_cluster + clusters; ++i, ++cluster) {
      // Found to be free a moment ago; but the block may have been read from the file again since.
      if (block->Get(i) != 0) {
        return health_.Corrupt(absl::StrCat("the refcount of cluster ", cluster,
                                            " has been changed by somebody else"));
      }
      block->Set(i, 1);
    }
    used_end_ = std::max(used_end_, cluster);
    written_end_ = std::max(written_end_, cluster);
  }
  counters_.clusters_allocated += clusters;
  return absl::OkStatus();
}

absl::StatusOr<Refcounts::Allocation> Refcounts::TakeFound(uint64_t first_cluster,
                                                           uint64_t clusters) {
  Allocation allocation;
  allocation.host_range = {first_cluster << geometry_.cluster_bits,
                           clusters << geometry_.cluster_bits};
  if (metadata_.Overlaps(allocation.host_range)) {
    return health_.Corrupt(
        absl::StrCat("metadata within ", allocation.host_range.ToString(), " has refcount zero"));
  }
  allocation.never_written = first_cluster >= written_end_;
  RETURN_IF_ERROR(Take(first_cluster, clusters));
  return allocation;
}

// An error on the way to a larger table (a full disk) leaves it without a place.
absl::Status Refcounts::CheckTable() {
  RETURN_IF_ERROR(health_.CheckWritable());
  return blocks_.needs_place() ? GrowTable(blocks_.capacity()) : absl::OkStatus();
}

absl::StatusOr<Refcounts::Allocation> Refcounts::AllocateLocked(uint64_t clusters_max) {
  RETURN_IF_ERROR(CheckTable());
  ASSIGN_OR_RETURN(first_maybe_free_, FindFree(first_maybe_free_));
  const uint64_t first = first_maybe_free_;
  ASSIGN_OR_RETURN(uint64_t count, CountFree(first, clusters_max));
  // Old space and new space differ in what they hold: one answer is of one kind.
  if (first < written_end_) count = std::min(count, written_end_ - first);
  ASSIGN_OR_RETURN(const Allocation allocation, TakeFound(first, count));
  first_maybe_free_ = first + count;
  return allocation;
}

absl::StatusOr<Refcounts::Allocation> Refcounts::Allocate(uint64_t clusters_max) {
  CHECK(clusters_max > 0);
  MutexLock lock(&mutex_);
  return AllocateLocked(clusters_max);
}

absl::StatusOr<Refcounts::Allocation> Refcounts::AllocateAdjacent(uint64_t clusters) {
  CHECK(clusters > 0);
  MutexLock lock(&mutex_);
  if (clusters == 1) return AllocateLocked(1);
  RETURN_IF_ERROR(CheckTable());
  ASSIGN_OR_RETURN(const uint64_t found, FindAdjacent(clusters));
  if (found != 0) return TakeFound(found, clusters);
  const uint64_t old_written_end = written_end_;
  ASSIGN_OR_RETURN(const uint64_t first, PlaceAtEnd(clusters));
  return Allocation{{first << geometry_.cluster_bits, clusters << geometry_.cluster_bits},
                    first >= old_written_end};
}

// The first run of `clusters` free clusters within the used part of the file; 0 if there is none.
absl::StatusOr<uint64_t> Refcounts::FindAdjacent(uint64_t clusters) {
  uint64_t cluster = first_maybe_free_;
  while (cluster < used_end_) {
    const uint64_t index = cluster >> geometry_.refcount_block_bits();
    const uint64_t next_block = (index + 1) << geometry_.refcount_block_bits();
    if (!blocks_.exists(index) || !blocks_.MayHaveFree(index)) {
      cluster = next_block;
      continue;
    }
    ASSIGN_OR_RETURN(const uint64_t free, CountFree(cluster, clusters));
    if (free == clusters) return cluster;
    cluster += free + 1;
  }
  return 0;
}

// Takes `clusters` adjacent clusters from the end of the used part on, behind new blocks for all of
// them that have none.
absl::StatusOr<uint64_t> Refcounts::PlaceAtEnd(uint64_t clusters) {
  const uint32_t block_bits = geometry_.refcount_block_bits();
  std::vector<uint64_t> missing;
  while (true) {
    const uint64_t last = (used_end_ + missing.size() + clusters - 1) >> block_bits;
    if (last >= kHostOffsetEnd >> geometry_.cluster_bits >> block_bits) {
      return Error(Reason::kNoSpace, "qcow2 image has no free clusters within reach");
    }
    if (last >= blocks_.capacity()) {
      RETURN_IF_ERROR(GrowTable(last + 1));
      missing.clear();
      continue;
    }
    const size_t missing_before = missing.size();
    missing.clear();
    for (uint64_t index = used_end_ >> block_bits; index <= last; ++index) {
      if (!blocks_.exists(index)) missing.push_back(index);
    }
    if (missing.size() <= missing_before) break;
  }
  const uint64_t first_block = used_end_;
  const uint64_t first = first_block + missing.size();
  for (size_t i = 0; i < missing.size(); ++i) {
    RETURN_IF_ERROR(CreateBlock(missing[i], first_block + i));
  }
  RETURN_IF_ERROR(Take(first, clusters));
  return first;
}

// Makes room in the refcount table for at least `blocks` blocks.
absl::Status Refcounts::GrowTable(uint64_t blocks) {
  uint64_t entries = blocks;
  if (!blocks_.needs_place()) {
    entries = std::max(blocks, blocks_.capacity() + blocks_.capacity() / 2);
  }
  uint64_t table_clusters = 0;
  while (true) {
    table_clusters = geometry_.ClustersFor(entries * 8);
    entries = table_clusters << geometry_.l2_bits();
    // The table must be able to count itself and the blocks that do so.
    const uint64_t new_clusters =
        table_clusters + (table_clusters >> geometry_.refcount_block_bits()) + 2;
    const uint64_t needed = ((used_end_ + new_clusters) >> geometry_.refcount_block_bits()) + 1;
    if (entries >= needed) break;
    entries = needed;
  }
  if (entries * 8 > std::max(kRefcountTableBytesMax, geometry_.cluster_bytes())) {
    return Error(Reason::kNoSpace, "the refcount table of the qcow2 image cannot grow further");
  }
  blocks_.Extend(entries);
  ASSIGN_OR_RETURN(const uint64_t first, PlaceAtEnd(table_clusters));
  const Range host_range = {first << geometry_.cluster_bits,
                            table_clusters << geometry_.cluster_bits};
  if (!metadata_.Add(host_range)) {
    return health_.Corrupt("free clusters hold metadata");
  }
  if (const absl::optional<Range> unused = blocks_.PlaceTable(host_range)) {
    metadata_.Remove(*unused);
    RETURN_IF_ERROR(ReleaseLocked(*unused));
  }
  return absl::OkStatus();
}

absl::StatusOr<Range> Refcounts::AllocateBytes(uint64_t length_bytes) {
  CHECK(length_bytes > 0 && length_bytes < geometry_.cluster_bytes());
  MutexLock lock(&mutex_);
  const uint64_t room =
      tail_offset_bytes_ == 0 ? 0 : geometry_.RoundUp(tail_offset_bytes_) - tail_offset_bytes_;
  bool share_tail = false;
  if (room > 0) {
    ASSIGN_OR_RETURN(const uint64_t count, GetLocked(tail_offset_bytes_ >> geometry_.cluster_bits));
    share_tail = count > 0 && count < geometry_.refcount_max();
  }
  uint64_t offset = tail_offset_bytes_;
  if (!share_tail || room < length_bytes) {
    ASSIGN_OR_RETURN(const Allocation allocation, AllocateLocked(1));
    share_tail = share_tail && allocation.host_range.offset_bytes == tail_offset_bytes_ + room;
    if (!share_tail) offset = allocation.host_range.offset_bytes;
  }
  if (share_tail) RETURN_IF_ERROR(ShareTail());
  tail_offset_bytes_ = offset + length_bytes;
  if (geometry_.OffsetInCluster(tail_offset_bytes_) == 0) tail_offset_bytes_ = 0;
  return Range{offset, length_bytes};
}

absl::Status Refcounts::ShareTail() {
  const uint64_t cluster = tail_offset_bytes_ >> geometry_.cluster_bits;
  ASSIGN_OR_RETURN(RefcountBlocks::Block* const block,
                   blocks_.Find(cluster >> geometry_.refcount_block_bits()));
  const uint64_t i = cluster & (geometry_.refcounts_per_block() - 1);
  block->Set(i, block->Get(i) + 1);
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> Refcounts::GetLocked(uint64_t cluster) {
  const uint64_t index = cluster >> geometry_.refcount_block_bits();
  if (index >= blocks_.capacity() || !blocks_.exists(index)) return 0;
  ASSIGN_OR_RETURN(RefcountBlocks::Block* const block, blocks_.Find(index));
  return block->Get(cluster & (geometry_.refcounts_per_block() - 1));
}

absl::StatusOr<uint64_t> Refcounts::Get(uint64_t host_offset_bytes) {
  MutexLock lock(&mutex_);
  return GetLocked(host_offset_bytes >> geometry_.cluster_bits);
}

absl::Status Refcounts::Release(Range host_range) {
  MutexLock lock(&mutex_);
  return ReleaseLocked(host_range);
}

absl::Status Refcounts::ReleaseLocked(Range host_range) {
  if (host_range.empty()) return absl::OkStatus();
  const uint64_t last = (host_range.end_bytes() - 1) >> geometry_.cluster_bits;
  for (uint64_t cluster = host_range.offset_bytes >> geometry_.cluster_bits; cluster <= last;
       ++cluster) {
    ASSIGN_OR_RETURN(const uint64_t count, GetLocked(cluster));
    if (count == 0) {
      return health_.Corrupt(absl::StrCat("cluster at offset ", cluster << geometry_.cluster_bits,
                                          " is used but its refcount is zero"));
    }
    ASSIGN_OR_RETURN(RefcountBlocks::Block* const block,
                     blocks_.Find(cluster >> geometry_.refcount_block_bits()));
    block->Set(cluster & (geometry_.refcounts_per_block() - 1), count - 1);
    if (count > 1) continue;
    ++counters_.clusters_freed;
    first_maybe_free_ = std::min(first_maybe_free_, cluster);
    if (tail_offset_bytes_ >> geometry_.cluster_bits == cluster) tail_offset_bytes_ = 0;
  }
  return absl::OkStatus();
}

absl::Status Refcounts::WriteBack() {
  MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(const absl::optional<Range> old_table, blocks_.WriteBack());
  if (!old_table.has_value()) return absl::OkStatus();
  metadata_.Remove(*old_table);
  return ReleaseLocked(*old_table);
}

}  // namespace tidemark::qcow2
