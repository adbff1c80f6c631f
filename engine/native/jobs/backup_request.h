// What blockdev-backup and drive-backup ask for, in the engine's words. Plain data; any thread.
#ifndef ENGINE_NATIVE_JOBS_BACKUP_REQUEST_H_
#define ENGINE_NATIVE_JOBS_BACKUP_REQUEST_H_

#include <string>

#include "absl/types/optional.h"
#include "engine/job/backup_options.h"
#include "engine/job/job_options.h"
#include "tidemark/block/v1/copy.pb.h"

namespace tidemark::native {

// The target that drive-backup opens, and makes if need be.
struct DriveTarget {
  std::string path;
  // The driver; empty: found by looking, or for a new file that of the source.
  std::string format;
  // The file exists already.
  bool existing = false;
};

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
