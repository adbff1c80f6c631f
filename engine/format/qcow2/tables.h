// The L1 and L2 tables: where each cluster of the disk lives. L1 is kept in memory whole, L2 tables
// in slices of a bounded cache. Any thread; a lookup that finds its slice in memory takes one short
// lock. Changes stay in memory until a checkpoint captures and writes them.
//
// The entries of one cluster are changed by one thread at a time: the caller holds a claim.
#ifndef ENGINE_FORMAT_QCOW2_TABLES_H_
#define ENGINE_FORMAT_QCOW2_TABLES_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/base/mutex.h"
#include "engine/format/qcow2/counters.h"
#include "engine/format/qcow2/free_queue.h"
#include "engine/format/qcow2/header_store.h"
#include "engine/format/qcow2/health.h"
#include "engine/format/qcow2/l2_entries.h"
#include "engine/format/qcow2/metadata_map.h"
#include "engine/format/qcow2/refcounts.h"
#include "engine/storage/storage.h"

namespace tidemark::qcow2 {

// A stretch of the disk whose clusters are alike, and adjacent in the file if they are in it.
struct Mapping {
  enum class Kind {
    kUnallocated,  // Shows the backing disk.
    kZero,         // Reads as zeroes.
    kData,
    kCompressed,  // One cluster.
  };
  Kind kind = Kind::kUnallocated;
  Range range;  // Of the disk.
  // kData: of the first byte of `range`. kZero: the same, or 0 if no clusters are kept for it.
  uint64_t host_offset_bytes = 0;
  // Nobody else refers to the clusters: they may be written in place.
  bool owned = false;
  uint64_t compressed_entry = 0;
};

class Tables {
 public:
  // Tables are in `file`, the clusters of the disk in `data_file`, which may be the same.
  // `refcounts` is null for an image that is only read.
  Tables(storage::Storage* file, storage::Storage* data_file, HeaderStore* header,
         Refcounts* refcounts, MetadataMap* metadata, Health* health, Counters* counters,
         FreeQueue* frees, uint64_t cache_bytes);

  // Reads the L1 table.
  absl::Status Load();

  // What the beginning of `range` (not empty, within the disk) is mapped to.
  absl::StatusOr<Mapping> Lookup(Range range);

  // How the entries that Set takes are made.
  const L2Entries& entries() const { return entries_; }

  // Where the last cluster ends that `Set` can change together with the one at `offset_bytes`.
  uint64_t SetEndBytes(uint64_t offset_bytes) const {
    return ((offset_bytes >> slice_coverage_bits_) + 1) << slice_coverage_bits_;
  }
  // Changes the entries of adjacent clusters from the one at `offset_bytes` on, all or none. What
  // the old entries refer to is put into the free queue, but for clusters that the new entry of the
  // same cluster refers to as well.
  absl::Status Set(uint64_t offset_bytes, absl::Span<const L2Entry> entries);

  // So much is waiting to be written that somebody should begin a checkpoint.
  bool WantsCheckpoint() const;

  // ---- Checkpoints; one at a time ----

  // A copy of what differs from the file.
  struct Captured {
    struct SlicePart {
      uint64_t slice_number;
      uint64_t host_offset_bytes;
      size_t begin;  // Within the slice.
      std::vector<std::byte> bytes;
      // Nothing in the file refers to the table yet.
      bool unpublished;
    };
    std::vector<SlicePart> parts;
    std::vector<std::pair<uint64_t, uint64_t>> l1_entries;  // Index and entry, ascending.

    bool empty() const { return parts.empty() && l1_entries.empty(); }
  };
  Captured Capture();
  // Writes the tables that nothing refers to yet.
  absl::Status WriteUnpublished(const Captured& captured);
  // Writes the rest. Everything it refers to must be durable.
  absl::Status WritePublished(const Captured& captured);
  // The captured changes are durable, or are to be captured again.
  void Finish(const Captured& captured, bool durable);

  // ---- Resizing; while there are no requests, and nothing waits for a checkpoint ----

  // Sees to an L1 table of at least `entries`, durably.
  absl::Status GrowL1(uint64_t entries);
  // Lets go of all L2 tables for the disk from `offset_bytes` on (whole tables); their entries must
  // be zero.
  absl::Status DropTables(uint64_t offset_bytes);

 private:
  struct Slice {
    std::vector<std::byte> bytes;
    bool loading = false;
    bool writing = false;  // Captured: the file may be older than memory.
    bool recently_used = true;
    size_t dirty_begin = 0;
    size_t dirty_end = 0;
    std::vector<uint64_t> bad_entries;  // Indexes, ascending.

    bool dirty() const { return dirty_begin != dirty_end; }
    void MarkDirty(size_t begin, size_t end);
  };

  uint64_t L1Index(uint64_t offset_bytes) const {
    return offset_bytes >> (geometry_.l2_bits() + geometry_.cluster_bits);
  }
  uint64_t SliceHostOffset(uint64_t slice_number) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The slice, loaded; unlocks and waits if it has to be. The L2 table must exist.
  absl::StatusOr<Slice*> FindSlice(uint64_t slice_number) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  L2Entry Get(const Slice& slice, uint64_t index) const {
    return entries_.Load(slice.bytes.data(), index);
  }
  // Of data where only tables may be; it cannot be if they are in different files.
  bool HitsMetadata(Range host_range) const {
    return &data_file_ == &file_ && metadata_.Overlaps(host_range);
  }
  void Put(Slice* slice, uint64_t index, const L2Entry& entry) const;
  uint64_t slice_entries() const { return slice_bytes_ >> geometry_.l2_entry_bits(); }
  absl::Status ReadSlice(uint64_t host_offset_bytes, Slice* slice);
  void EvictForOne() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool IsBad(const L2Entry& entry, uint64_t file_end_bytes) const;
  Mapping Describe(const L2Entry& entry) const;
  absl::StatusOr<Mapping> WalkSlice(Range range, const Slice& slice)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Sees to an L2 table at `l1_index` that is ours alone.
  absl::Status MakeTable(uint64_t l1_index);
  absl::Status FillTable(uint64_t old_host_offset_bytes, Range new_host_range);
  void Release(const L2Entry& old_entry, const L2Entry& new_entry);

  // Constant after construction.
  storage::Storage& file_;
  storage::Storage& data_file_;
  HeaderStore& header_;
  Refcounts* const refcounts_;
  MetadataMap& metadata_;
  Health& health_;
  Counters& counters_;
  FreeQueue& frees_;
  const Geometry geometry_;
  const L2Entries entries_;
  const uint64_t slice_bytes_;
  const uint32_t slice_coverage_bits_;  // Disk bytes per slice, as a power of two.
  const size_t cached_slices_max_;

  // Held while an L2 table is made, through its I/O. Taken before mutex_.
  Mutex making_;

  mutable Mutex mutex_;
  CondVar loaded_;
  std::vector<uint64_t> l1_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_set<uint64_t> bad_l1_ ABSL_GUARDED_BY(mutex_);
  // Entries that differ from the file, and whether one was ever sent there.
  absl::flat_hash_map<uint64_t, bool> dirty_l1_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<uint64_t, std::unique_ptr<Slice>> slices_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_set<uint64_t> dirty_slices_ ABSL_GUARDED_BY(mutex_);
  std::vector<uint64_t> eviction_order_ ABSL_GUARDED_BY(mutex_);  // A clock's face.
  size_t eviction_hand_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace tidemark::qcow2

#endif  // ENGINE_FORMAT_QCOW2_TABLES_H_
