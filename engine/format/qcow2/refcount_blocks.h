// The refcount table and its blocks: a bounded write-back cache of them, and how they grow. The
// owner (Refcounts) synchronises.
//
// What memory says may be written to the file at any time, because clusters are counted before
// anything durable refers to them, and no longer counted only after nothing durable does.
#ifndef ENGINE_FORMAT_QCOW2_REFCOUNT_BLOCKS_H_
#define ENGINE_FORMAT_QCOW2_REFCOUNT_BLOCKS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "engine/format/qcow2/counters.h"
#include "engine/format/qcow2/header_store.h"
#include "engine/format/qcow2/health.h"
#include "engine/format/qcow2/metadata_map.h"
#include "engine/storage/storage.h"

namespace tidemark::qcow2 {

class RefcountBlocks {
 public:
  // Counts of adjacent clusters. A pointer to one is good until the next call that finds or creates
  // one.
  class Block {
   public:
    uint64_t Get(uint64_t index) const { return LoadRefcount(bytes_.data(), index, order_); }
    void Set(uint64_t index, uint64_t count);
    uint64_t size() const { return bytes_.size() * 8 >> order_; }

   private:
    friend class RefcountBlocks;
    uint32_t order_ = 4;
    uint64_t host_offset_bytes_ = 0;
    std::vector<std::byte> bytes_;
    // Of `bytes_`: what differs from the file. Empty if they are equal.
    size_t dirty_begin_ = 0;
    size_t dirty_end_ = 0;
    // The table in the file refers to it.
    bool published_ = true;
    uint64_t last_used_ = 0;
    uint32_t* free_count_ = nullptr;
  };

  RefcountBlocks(storage::Storage* file, HeaderStore* header, MetadataMap* metadata, Health* health,
                 Counters* counters);

  // Reads the table. kImageCorrupt if an entry is impossible.
  absl::Status Load();

  // Blocks the table has room for.
  uint64_t capacity() const { return table_.size(); }
  // The table has been extended, and no place in the file was found for all of it yet.
  bool needs_place() const {
    const Range place = new_table_range_.has_value() ? *new_table_range_ : table_range_;
    return table_.size() * 8 > place.length_bytes;
  }
  bool exists(uint64_t index) const { return table_[index] != 0; }
  // False only if the block exists and is known to be full.
  bool MayHaveFree(uint64_t index) const { return free_counts_[index] != 0; }

  // The block, which exists.
  absl::StatusOr<Block*> Find(uint64_t index);
  // Makes a block of zero counts that will be stored in the cluster at `host_offset_bytes`.
  absl::StatusOr<Block*> Create(uint64_t index, uint64_t host_offset_bytes);

  // Makes room in memory for `capacity` blocks. What the table in the file has no room for stays
  // unknown to it until the larger one has been given a place.
  void Extend(uint64_t capacity);
  // Where the table is to be from the next WriteBack on. Returns a place given before that is no
  // longer needed (its clusters are to be released).
  absl::optional<Range> PlaceTable(Range host_range);

  // Writes everything that differs; durable after the next flush of the file. Returns the place of
  // an old table that is no longer needed.
  absl::StatusOr<absl::optional<Range>> WriteBack();

 private:
  static constexpr uint32_t kFreeCountUnknown = ~uint32_t{0};

  absl::Status Insert(uint64_t index, std::unique_ptr<Block> block);
  absl::Status EvictOne();
  absl::Status WriteBlock(Block* block);
  absl::Status WriteTableEntries();
  Geometry geometry() const { return geometry_; }

  // Constant after construction.
  storage::Storage& file_;
  HeaderStore& header_;
  MetadataMap& metadata_;
  Health& health_;
  Counters& counters_;
  const Geometry geometry_;
  const size_t cached_blocks_max_;

  std::vector<uint64_t> table_;  // Host offsets; 0 where there is no block.
  std::vector<uint32_t> free_counts_;
  Range table_range_;                      // Where the file has it.
  absl::optional<Range> new_table_range_;  // Where it is to be.
  absl::flat_hash_map<uint64_t, std::unique_ptr<Block>> blocks_;
  std::vector<uint64_t> unpublished_;  // Indexes of blocks.
  absl::optional<Range> retired_table_range_;
  uint64_t use_clock_ = 0;
};

}  // namespace tidemark::qcow2

#endif  // ENGINE_FORMAT_QCOW2_REFCOUNT_BLOCKS_H_
