#include "engine/job/backup_options.h"

#include <limits>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/job/limits.h"

namespace tidemark::job {
namespace {

absl::string_view NameOf(SyncMode sync) {
  constexpr absl::string_view kNames[] = {"full", "top", "none", "incremental", "bitmap"};
  return kNames[static_cast<int>(sync)];
}

absl::Status Refuse(const BackupOptions& options, absl::string_view why) {
  return Error(Reason::kInvalidField,
               absl::StrCat("backup job '", options.job_id, "' with sync mode '",
                            NameOf(options.sync), "': ", why),
               {{"job", options.job_id}, {"sync", NameOf(options.sync)}});
}

}  // namespace

absl::Status ValidateBitmapChoice(BackupOptions* options) {
  const SyncMode sync = options->sync;
  const bool by_bitmap = sync == SyncMode::kIncremental || sync == SyncMode::kBitmap;
  if (options->bitmap.empty()) {
    if (by_bitmap) return Refuse(*options, "the name of a bitmap must be given");
    if (options->bitmap_mode.has_value()) {
      return Refuse(*options, "a bitmap-mode was given, but no bitmap");
    }
    return absl::OkStatus();
  }
  if (sync == SyncMode::kIncremental) {
    if (options->bitmap_mode.value_or(BitmapMode::kOnSuccess) != BitmapMode::kOnSuccess) {
      return Refuse(*options, "bitmap-mode must be 'on-success'");
    }
    options->bitmap_mode = BitmapMode::kOnSuccess;
    return absl::OkStatus();
  }
  if (!options->bitmap_mode.has_value()) {
    return Refuse(*options,
                  absl::StrCat("bitmap '", options->bitmap, "' was given, but no bitmap-mode"));
  }
  if (sync == SyncMode::kNone) {
    return Refuse(*options, absl::StrCat("bitmap '", options->bitmap,
                                         "' cannot be used: this mode copies no defined part"));
  }
  if (!by_bitmap && *options->bitmap_mode == BitmapMode::kNever) {
    return Refuse(*options, absl::StrCat("bitmap-mode 'never' would leave bitmap '",
                                         options->bitmap, "' without any use"));
  }
  return absl::OkStatus();
}

absl::Status ValidatePerformance(const BackupOptions& options, uint64_t cluster_bytes) {
  if (options.max_workers.has_value() &&
      (*options.max_workers < 1 || *options.max_workers > std::numeric_limits<int32_t>::max())) {
    return Refuse(
        options, absl::StrCat("max-workers must be between 1 and ",
                              std::numeric_limits<int32_t>::max(), ", not ", *options.max_workers));
  }
  if (options.min_cluster_bytes > kMinClusterBytesMax) {
    return Refuse(options, absl::StrCat("min-cluster-size of ", options.min_cluster_bytes,
                                        " bytes is more than ", kMinClusterBytesMax));
  }
  if ((options.min_cluster_bytes & (options.min_cluster_bytes - 1)) != 0) {
    return Refuse(options, absl::StrCat("min-cluster-size of ", options.min_cluster_bytes,
                                        " bytes is not a power of two"));
  }
  if (!options.max_chunk_bytes.has_value() || *options.max_chunk_bytes == 0) {
    return absl::OkStatus();
  }
  if (*options.max_chunk_bytes < 0) {
    return Refuse(options,
                  absl::StrCat("max-chunk must not be negative, as ", *options.max_chunk_bytes));
  }
  if (static_cast<uint64_t>(*options.max_chunk_bytes) < cluster_bytes) {
    return Refuse(options, absl::StrCat("max-chunk of ", *options.max_chunk_bytes,
                                        " bytes is less than the backup's cluster of ",
                                        cluster_bytes, " bytes"));
  }
  return absl::OkStatus();
}

BitmapResult ResultFor(BitmapMode mode, bool success) {
  switch (mode) {
    case BitmapMode::kOnSuccess:
      return success ? BitmapResult::kWrites : BitmapResult::kStartAndWrites;
    case BitmapMode::kAlways:
      return success ? BitmapResult::kWrites : BitmapResult::kNotCopiedAndWrites;
    case BitmapMode::kNever:
      break;
  }
  return BitmapResult::kStartAndWrites;
}

}  // namespace tidemark::job
