#include "engine/format/qcow2/snapshots.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/base/endian.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/format/qcow2/limits.h"

namespace tidemark::qcow2 {
namespace {

// u64 L1 offset, u32 L1 entries, u16 id bytes, u16 name bytes, u32 seconds, u32 nanoseconds, u64
// clock, u32 VM state bytes, u32 extra data bytes; then extra data, id, name, padding to eight.
constexpr size_t kFixedBytes = 40;
// What the extra data holds, as far as it goes: u64 VM state bytes, u64 disk bytes, u64 icount.
constexpr size_t kExtraVmStateEnd = 8;
constexpr size_t kExtraDiskEnd = 16;
constexpr size_t kExtraInstructionCountEnd = 24;
constexpr uint64_t kNoInstructionCount = ~uint64_t{0};

absl::Status Broken(uint32_t index, absl::string_view why) {
  return Error(Reason::kImageCorrupt,
               absl::StrCat("entry ", index, " of the snapshot table is broken: ", why));
}

// The snapshot whose fixed part is `fixed` and whose other parts are `variable`.
Snapshot Parse(absl::string_view fixed, absl::string_view variable) {
  const uint16_t id_bytes = LoadBigEndian<uint16_t>(fixed.data() + 12);
  const uint16_t name_bytes = LoadBigEndian<uint16_t>(fixed.data() + 14);
  const uint32_t extra_bytes = LoadBigEndian<uint32_t>(fixed.data() + 36);
  Snapshot snapshot;
  snapshot.l1_offset_bytes = LoadBigEndian<uint64_t>(fixed.data());
  snapshot.l1_entries = LoadBigEndian<uint32_t>(fixed.data() + 8);
  snapshot.date_seconds = LoadBigEndian<uint32_t>(fixed.data() + 16);
  snapshot.date_nanoseconds = LoadBigEndian<uint32_t>(fixed.data() + 20);
  snapshot.vm_clock_nanoseconds = LoadBigEndian<uint64_t>(fixed.data() + 24);
  snapshot.vm_state_bytes = LoadBigEndian<uint32_t>(fixed.data() + 32);
  if (extra_bytes >= kExtraVmStateEnd) {
    snapshot.vm_state_bytes = LoadBigEndian<uint64_t>(variable.data());
  }
  if (extra_bytes >= kExtraDiskEnd) {
    snapshot.disk_bytes = LoadBigEndian<uint64_t>(variable.data() + kExtraVmStateEnd);
  }
  if (extra_bytes >= kExtraInstructionCountEnd) {
    const uint64_t count = LoadBigEndian<uint64_t>(variable.data() + kExtraDiskEnd);
    if (count != kNoInstructionCount) snapshot.instruction_count = count;
  }
  snapshot.id = std::string(variable.substr(extra_bytes, id_bytes));
  snapshot.name = std::string(variable.substr(extra_bytes + id_bytes, name_bytes));
  return snapshot;
}

storage::Bytes AsBytes(std::string& text) {
  return {reinterpret_cast<std::byte*>(text.data()), text.size()};
}

}  // namespace

absl::StatusOr<SnapshotTable> ReadSnapshotTable(const Header& header, MetadataReader read) {
  SnapshotTable table;
  if (header.snapshot_count == 0) return table;
  if (header.snapshot_count > kSnapshotsMax) {
    return Error(Reason::kImageCorrupt,
                 absl::StrCat("the image claims ", header.snapshot_count,
                              " internal snapshots, more than ", kSnapshotsMax));
  }
  if (header.snapshots_offset_bytes >= kHostOffsetEnd ||
      header.geometry.OffsetInCluster(header.snapshots_offset_bytes) != 0) {
    return Error(Reason::kImageCorrupt, absl::StrCat("the snapshot table's offset ",
                                                     header.snapshots_offset_bytes, " cannot be"));
  }
  std::string fixed(kFixedBytes, '\0');
  for (uint32_t index = 0; index < header.snapshot_count; ++index) {
    const uint64_t at = header.snapshots_offset_bytes + table.length_bytes;
    RETURN_IF_ERROR(read(at, AsBytes(fixed)));
    const uint32_t extra_bytes = LoadBigEndian<uint32_t>(fixed.data() + 36);
    if (extra_bytes > kSnapshotExtraBytesMax) {
      return Broken(index, absl::StrCat("extra data of ", extra_bytes, " bytes"));
    }
    std::string variable(size_t{extra_bytes} + LoadBigEndian<uint16_t>(fixed.data() + 12) +
                             LoadBigEndian<uint16_t>(fixed.data() + 14),
                         '\0');
    RETURN_IF_ERROR(read(at + kFixedBytes, AsBytes(variable)));
    table.length_bytes += (kFixedBytes + variable.size() + 7) & ~uint64_t{7};
    if (table.length_bytes > kSnapshotTableBytesMax) {
      return Broken(index, absl::StrCat("the table is longer than ", kSnapshotTableBytesMax));
    }
    table.snapshots.push_back(Parse(fixed, variable));
  }
  return table;
}

}  // namespace tidemark::qcow2
