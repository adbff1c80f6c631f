#include "engine/format/qcow2/refcount_blocks.h"

#include <algorithm>

#include "engine/base/check.h"
#include "engine/base/endian.h"
#include "engine/base/status_macros.h"
#include "engine/format/qcow2/limits.h"

namespace tidemark::qcow2 {

// Order of writing, when blocks are new or the table moves: blocks first, made durable, and only
// then the table entries (or the header's pointer to the new table) that make them count. New
// blocks can therefore not be dropped from the cache before the whole of that has been done.

void RefcountBlocks::Block::Set(uint64_t index, uint64_t count) {
  const uint64_t old_count = Get(index);
  if (old_count == 0 && count != 0) --*free_count_;
  if (old_count != 0 && count == 0) ++*free_count_;
  StoreRefcount(bytes_.data(), index, order_, count);
  const size_t begin = (index << order_ >> 3) & ~size_t{511};
  if (dirty_begin_ == dirty_end_) dirty_begin_ = dirty_end_ = begin;
  dirty_begin_ = std::min(dirty_begin_, begin);
  dirty_end_ = std::max(dirty_end_, begin + 512);
}

RefcountBlocks::RefcountBlocks(storage::Storage* file, HeaderStore* header, MetadataMap* metadata,
                               Health* health, Counters* counters)
    : file_(*file),
      header_(*header),
      metadata_(*metadata),
      health_(*health),
      counters_(*counters),
      geometry_(header->Get().geometry),
      cached_blocks_max_(
          std::max<size_t>(4, kRefcountCacheBytes >> header->Get().geometry.cluster_bits)) {}

absl::Status RefcountBlocks::Load() {
  const Header header = header_.Get();
  table_range_ = {header.refcount_table_offset_bytes,
                  uint64_t{header.refcount_table_clusters} << geometry_.cluster_bits};
  std::vector<uint64_t> table(table_range_.length_bytes / 8);
  RETURN_IF_ERROR(file_.Read(
      table_range_.offset_bytes,
      storage::Bytes(reinterpret_cast<std::byte*>(table.data()), table_range_.length_bytes)));
  const uint64_t file_end = geometry_.RoundUp(file_.size_bytes());
  for (uint64_t& entry : table) {
    entry = BigEndian(entry);
    if (entry == 0) continue;
    if (geometry_.OffsetInCluster(entry) != 0 || entry >= file_end ||
        !metadata_.Add({entry, geometry_.cluster_bytes()})) {
      return health_.Corrupt(
          absl::StrCat("refcount table entry 0x", absl::Hex(entry), " is impossible"));
    }
  }
  table_ = std::move(table);
  free_counts_.assign(table_.size(), kFreeCountUnknown);
  return absl::OkStatus();
}

absl::StatusOr<RefcountBlocks::Block*> RefcountBlocks::Find(uint64_t index) {
  CHECK(index < table_.size() && table_[index] != 0);
  if (const auto found = blocks_.find(index); found != blocks_.end()) {
    found->second->last_used_ = ++use_clock_;
    return found->second.get();
  }
  auto block = std::make_unique<Block>();
  block->host_offset_bytes_ = table_[index];
  block->bytes_.resize(geometry_.cluster_bytes());
  RETURN_IF_ERROR(file_.Read(block->host_offset_bytes_, absl::MakeSpan(block->bytes_)));
  ++counters_.refcount_blocks_read;
  Block* const result = block.get();
  RETURN_IF_ERROR(Insert(index, std::move(block)));
  if (free_counts_[index] == kFreeCountUnknown) {
    uint32_t free_count = 0;
    for (uint64_t i = 0; i < result->size(); ++i) free_count += result->Get(i) == 0;
    free_counts_[index] = free_count;
  }
  return result;
}

absl::StatusOr<RefcountBlocks::Block*> RefcountBlocks::Create(uint64_t index,
                                                              uint64_t host_offset_bytes) {
  CHECK(index < table_.size() && table_[index] == 0);
  if (!metadata_.Add({host_offset_bytes, geometry_.cluster_bytes()})) {
    return health_.Corrupt(
        absl::StrCat("metadata cluster at offset ", host_offset_bytes, " has refcount zero"));
  }
  auto block = std::make_unique<Block>();
  block->host_offset_bytes_ = host_offset_bytes;
  block->bytes_.resize(geometry_.cluster_bytes());
  block->dirty_end_ = block->bytes_.size();
  block->published_ = false;
  Block* const result = block.get();
  if (absl::Status status = Insert(index, std::move(block)); !status.ok()) {
    metadata_.Remove({host_offset_bytes, geometry_.cluster_bytes()});
    return status;
  }
  table_[index] = host_offset_bytes;
  free_counts_[index] = static_cast<uint32_t>(geometry_.refcounts_per_block());
  unpublished_.push_back(index);
  return result;
}

absl::Status RefcountBlocks::Insert(uint64_t index, std::unique_ptr<Block> block) {
  while (blocks_.size() >= cached_blocks_max_) RETURN_IF_ERROR(EvictOne());
  block->order_ = geometry_.refcount_order;
  block->last_used_ = ++use_clock_;
  block->free_count_ = &free_counts_[index];
  blocks_[index] = std::move(block);
  return absl::OkStatus();
}

absl::Status RefcountBlocks::EvictOne() {
  const auto victim = std::min_element(
      blocks_.begin(), blocks_.end(),
      [](const auto& a, const auto& b) { return a.second->last_used_ < b.second->last_used_; });
  Block* const block = victim->second.get();
  if (!block->published_) {
    ASSIGN_OR_RETURN(const absl::optional<Range> retired, WriteBack());
    if (retired.has_value()) retired_table_range_ = retired;
  } else {
    RETURN_IF_ERROR(WriteBlock(block));
  }
  blocks_.erase(victim);
  return absl::OkStatus();
}

void RefcountBlocks::Extend(uint64_t capacity) {
  if (capacity <= table_.size()) return;
  table_.resize(capacity);
  free_counts_.resize(capacity, kFreeCountUnknown);
  for (auto& [index, block] : blocks_) block->free_count_ = &free_counts_[index];
}

absl::optional<Range> RefcountBlocks::PlaceTable(Range host_range) {
  return std::exchange(new_table_range_, host_range);
}

absl::Status RefcountBlocks::WriteBlock(Block* block) {
  if (block->dirty_begin_ == block->dirty_end_) return absl::OkStatus();
  const auto dirty = storage::ConstBytes(block->bytes_)
                         .subspan(block->dirty_begin_, block->dirty_end_ - block->dirty_begin_);
  RETURN_IF_ERROR(file_.Write(block->host_offset_bytes_ + block->dirty_begin_, dirty, {}));
  counters_.refcount_bytes_written += dirty.size();
  block->dirty_begin_ = block->dirty_end_ = 0;
  return absl::OkStatus();
}

absl::StatusOr<absl::optional<Range>> RefcountBlocks::WriteBack() {
  for (auto& [index, block] : blocks_) RETURN_IF_ERROR(WriteBlock(block.get()));
  if (unpublished_.empty() && !new_table_range_.has_value()) {
    return std::exchange(retired_table_range_, absl::nullopt);
  }
  if (!new_table_range_.has_value()) {
    RETURN_IF_ERROR(file_.Flush());
    ++counters_.file_flushes;
    RETURN_IF_ERROR(WriteTableEntries());
  } else {
    std::vector<uint64_t> table(new_table_range_->length_bytes / 8);
    std::transform(table_.begin(), table_.end(), table.begin(), BigEndian<uint64_t>);
    RETURN_IF_ERROR(
        file_.Write(new_table_range_->offset_bytes,
                    storage::ConstBytes(reinterpret_cast<const std::byte*>(table.data()),
                                        new_table_range_->length_bytes),
                    {}));
    RETURN_IF_ERROR(file_.Flush());
    counters_.file_flushes += 2;
    RETURN_IF_ERROR(header_.Patch([&](Header& header) {
      header.refcount_table_offset_bytes = new_table_range_->offset_bytes;
      header.refcount_table_clusters =
          static_cast<uint32_t>(new_table_range_->length_bytes >> geometry_.cluster_bits);
    }));
    retired_table_range_ = std::exchange(table_range_, *new_table_range_);
    new_table_range_.reset();
  }
  std::erase_if(unpublished_, [this](uint64_t index) {
    if (index >= table_range_.length_bytes / 8) return false;
    if (const auto found = blocks_.find(index); found != blocks_.end()) {
      found->second->published_ = true;
    }
    return true;
  });
  return std::exchange(retired_table_range_, absl::nullopt);
}

// Entries of one sector go out together.
absl::Status RefcountBlocks::WriteTableEntries() {
  constexpr uint64_t kEntriesPerSector = 512 / 8;
  std::vector<uint64_t> sectors;
  for (const uint64_t index : unpublished_) {
    if (index < table_range_.length_bytes / 8) sectors.push_back(index / kEntriesPerSector);
  }
  std::sort(sectors.begin(), sectors.end());
  sectors.erase(std::unique(sectors.begin(), sectors.end()), sectors.end());
  for (const uint64_t sector : sectors) {
    uint64_t entries[kEntriesPerSector];
    for (uint64_t i = 0; i < kEntriesPerSector; ++i) {
      entries[i] = BigEndian(table_[sector * kEntriesPerSector + i]);
    }
    RETURN_IF_ERROR(file_.Write(
        table_range_.offset_bytes + sector * 512,
        storage::ConstBytes(reinterpret_cast<const std::byte*>(entries), sizeof(entries)), {}));
  }
  return absl::OkStatus();
}

}  // namespace tidemark::qcow2
