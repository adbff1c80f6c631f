#include "engine/native/jobs/backup_request.h"

#include "engine/native/jobs/job_convert.h"

namespace tidemark::native {
namespace {

absl::optional<job::BitmapMode> FromProto(block::v1::BitmapSyncMode mode) {
  switch (mode) {
    case block::v1::BITMAP_SYNC_MODE_ON_SUCCESS:
      return job::BitmapMode::kOnSuccess;
    case block::v1::BITMAP_SYNC_MODE_NEVER:
      return job::BitmapMode::kNever;
    case block::v1::BITMAP_SYNC_MODE_ALWAYS:
      return job::BitmapMode::kAlways;
    default:
      return absl::nullopt;
  }
}

// What the two requests have in common, which is all but the target.
template <typename Request>
BackupRequest CommonFromProto(const Request& request) {
  BackupRequest common;
  common.job = JobOptionsOf(request, job::JobType::kBackup);
  common.job.on_source_error = native::FromProto(request.on_source_error());
  common.job.on_target_error = native::FromProto(request.on_target_error());
  common.backup.job_id = request.job_id();
  common.backup.sync = native::FromProto(request.sync());
  common.backup.bitmap = request.bitmap();
  common.backup.bitmap_mode = FromProto(request.bitmap_mode());
  common.backup.compress = request.compress();
  if (request.x_perf().has_max_workers()) {
    common.backup.max_workers = request.x_perf().max_workers();
  }
  if (request.x_perf().max_chunk() != 0) {
    common.backup.max_chunk_bytes = request.x_perf().max_chunk();
  }
  common.backup.min_cluster_bytes = request.x_perf().min_cluster_size();
  common.source_node = request.device();
  common.filter_node_name = request.filter_node_name();
  return common;
}

}  // namespace

BackupRequest FromProto(const block::v1::BlockdevBackupRequest& request) {
  BackupRequest backup = CommonFromProto(request);
  backup.target_node = request.target();
  return backup;
}

BackupRequest FromProto(const block::v1::DriveBackupRequest& request) {
  BackupRequest backup = CommonFromProto(request);
  backup.target_file =
      DriveTarget{.path = request.target(),
                  .format = request.format(),
                  .existing = request.mode() == block::v1::NEW_IMAGE_MODE_EXISTING};
  return backup;
}

}  // namespace tidemark::native
