// How the entries of L2 tables are spelled. An entry says where a cluster of the disk lives in 64
// bits; where the geometry has extended entries, 64 more say of each of 32 subclusters whether it
// is in that place, reads as zeroes, or shows the backing disk. Plain values; any thread.
#ifndef ENGINE_FORMAT_QCOW2_L2_ENTRIES_H_
#define ENGINE_FORMAT_QCOW2_L2_ENTRIES_H_

#include <cstddef>
#include <cstdint>

#include "engine/base/range.h"
#include "engine/format/qcow2/layout.h"

namespace tidemark::qcow2 {

// As it stands in a table. All zeroes: unallocated.
struct L2Entry {
  uint64_t cluster = 0;
  // Extended entries only. Low half: the subcluster is in its place; high half: it reads as zeroes.
  uint64_t subclusters = 0;

  bool empty() const { return cluster == 0 && subclusters == 0; }
  bool is_compressed() const { return (cluster & kEntryCompressed) != 0; }
  bool is_owned() const { return (cluster & kEntryCopied) != 0; }
  // Where the cluster's place begins in the file; 0 for none. Not of a compressed one.
  uint64_t host_offset_bytes() const { return cluster & kEntryOffsetMask; }

  friend bool operator==(const L2Entry&, const L2Entry&) = default;
};

// What an entry says of a part of its cluster.
enum class ClusterContent {
  kUnallocated,  // Shows the backing disk.
  kZero,
  kData,
  kCompressed,
  kImpossible,  // The two bits of a subcluster contradict each other, or its cluster has no place.
};

class L2Entries {
 public:
  // Version 2 has no entries that say zero.
  L2Entries(const Geometry& geometry, uint32_t version)
      : geometry_(geometry), has_zeroes_(version >= 3) {}

  size_t entry_bytes() const { return size_t{1} << geometry_.l2_entry_bits(); }
  L2Entry Load(const std::byte* table, uint64_t index) const;
  void Store(std::byte* table, uint64_t index, const L2Entry& entry) const;

  // Entries for whole clusters that nobody else refers to. `KeptZero` reads as zeroes and keeps its
  // place.
  L2Entry Data(uint64_t host_offset_bytes) const;
  L2Entry Zero() const;
  L2Entry KeptZero(uint64_t host_offset_bytes) const;
  // The range must not be empty nor longer than a cluster.
  L2Entry Compressed(Range host_range) const { return {geometry_.CompressedEntry(host_range), 0}; }
  // That of the next cluster, alike and adjacent in the file if it has a place there.
  L2Entry Next(const L2Entry& entry) const;

  // How many entries of `table` from `first` on, up to `end` (which is behind it), are one stretch:
  // each is the `Next` of the one before it. A compressed one is a stretch of its own.
  uint64_t CountAlike(const std::byte* table, uint64_t first, uint64_t end) const;

  // What all the subclusters from `first` up to the returned end are. Without extended entries a
  // cluster is its only subcluster.
  struct Run {
    ClusterContent content;
    uint32_t end;
  };
  Run Describe(const L2Entry& entry, uint32_t first = 0) const;

  // No reader can make sense of it, wherever the file ends.
  bool IsMalformed(const L2Entry& entry) const;

 private:
  ClusterContent ContentOf(const L2Entry& entry, uint32_t subcluster) const;

  Geometry geometry_;
  bool has_zeroes_;
};

}  // namespace tidemark::qcow2

#endif  // ENGINE_FORMAT_QCOW2_L2_ENTRIES_H_
