// What blockdev-backup may ask for, and which of it goes together. Plain data; any thread.
#ifndef ENGINE_JOB_BACKUP_OPTIONS_H_
#define ENGINE_JOB_BACKUP_OPTIONS_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/types/optional.h"

namespace tidemark::job {

enum class SyncMode { kFull, kTop, kNone, kIncremental, kBitmap };

// When a backup changes the bitmap that it used.
enum class BitmapMode { kOnSuccess, kAlways, kNever };

struct BackupOptions {
  std::string job_id;
  SyncMode sync = SyncMode::kFull;
  // Empty if no bitmap was given.
  std::string bitmap;
  absl::optional<BitmapMode> bitmap_mode;
  bool compress = false;
  // x-perf. Absent: our own choice.
  absl::optional<int64_t> max_workers;
  absl::optional<int64_t> max_chunk_bytes;
  // The least copy unit: a power of two, or 0 for none.
  uint64_t min_cluster_bytes = 0;
};

// Whether the sync mode, the bitmap and its mode go together, and fills in the mode that
// sync=incremental implies. InvalidArgument otherwise.
absl::Status ValidateBitmapChoice(BackupOptions* options);

// Whether x-perf is within its limits for this copy unit. InvalidArgument otherwise.
absl::Status ValidatePerformance(const BackupOptions& options, uint64_t cluster_bytes);

// What becomes of the bitmap b of a backup, where S is b as it was at the start, W what guests have
// written since, and U what was not copied.
enum class BitmapResult { kWrites, kStartAndWrites, kNotCopiedAndWrites };  // W; S or W; U or W.
BitmapResult ResultFor(BitmapMode mode, bool success);

}  // namespace tidemark::job

#endif  // ENGINE_JOB_BACKUP_OPTIONS_H_
