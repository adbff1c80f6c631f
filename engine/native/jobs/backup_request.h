// What blockdev-backup and drive-backup ask for, in the engine's words. Plain data; any thread.
#ifndef ENGINE_NATIVE_JOBS_BACKUP_REQUEST_H_
#define ENGINE_NATIVE_JOBS_BACKUP_REQUEST_H_

#include <string>

#include "absl/types/optional.h"
#include "engine/job/backup_options.h"
#include "engine/job/job_options.h"
#include "engine/native/jobs/drive_target.h"
#include "tidemark/block/v1/copy.pb.h"

namespace tidemark::native {

struct BackupRequest {
  job::JobOptions job;
  job::BackupOptions backup;
  std::string source_node;
  // Of an existing node; empty if the target is a file to be opened.
  std::string target_node;
  absl::optional<DriveTarget> target_file;
  // Empty: the graph makes one.
  std::string filter_node_name;
};

BackupRequest FromProto(const block::v1::BlockdevBackupRequest& request);
BackupRequest FromProto(const block::v1::DriveBackupRequest& request);

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_JOBS_BACKUP_REQUEST_H_
