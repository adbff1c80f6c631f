// The internal snapshots of an image, read only: we keep them, show them and count their clusters,
// but neither make nor delete them. Pure functions; any thread.
#ifndef ENGINE_FORMAT_QCOW2_SNAPSHOTS_H_
#define ENGINE_FORMAT_QCOW2_SNAPSHOTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/format/qcow2/bitmap_directory.h"
#include "engine/format/qcow2/header.h"

namespace tidemark::qcow2 {

struct Snapshot {
  std::string id;
  std::string name;
  uint64_t l1_offset_bytes = 0;
  uint32_t l1_entries = 0;
  // Of the disk when it was taken; absent in images of old programs.
  absl::optional<uint64_t> disk_bytes;
  uint64_t vm_state_bytes = 0;
  // Seconds since 1970, and the rest of them.
  uint32_t date_seconds = 0;
  uint32_t date_nanoseconds = 0;
  uint64_t vm_clock_nanoseconds = 0;
  // Instructions executed; absent if it was not recorded.
  absl::optional<uint64_t> instruction_count;
};

struct SnapshotTable {
  std::vector<Snapshot> snapshots;
  uint64_t length_bytes = 0;  // In the file.
};

// The table that `header` points to. kImageCorrupt for one that cannot be; whether the L1 tables in
// it lie where they may is left to whoever reads them.
absl::StatusOr<SnapshotTable> ReadSnapshotTable(const Header& header, MetadataReader read);

}  // namespace tidemark::qcow2

#endif  // ENGINE_FORMAT_QCOW2_SNAPSHOTS_H_
