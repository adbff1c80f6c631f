// blockdev-backup and drive-backup as actions of a transaction; alone they are transactions of one.
//
// At the instant a copy-before-write filter goes above the source, the bitmap is frozen and its
// successor records on, and the job is created. When the job ends, its hooks hand the bitmap over
// and take the filter away, again at an instant of their own.
#ifndef ENGINE_NATIVE_BACKUP_ACTION_H_
#define ENGINE_NATIVE_BACKUP_ACTION_H_

#include <memory>
#include <string>

#include "absl/types/optional.h"
#include "engine/job/backup_options.h"
#include "engine/job/job_group.h"
#include "engine/job/job_options.h"
#include "engine/native/drive_target.h"
#include "engine/native/engine.h"
#include "engine/transaction/transaction.h"
#include "tidemark/block/v1/copy.pb.h"

namespace tidemark::native {

struct BackupRequest {
  job::JobOptions job;
  job::BackupOptions backup;
  std::string source_node;
  // Of an existing node; empty if the target is a file to be opened.
  std::string target_node;
  absl::optional<DriveTarget> target_file;
  std::string filter_node_name;
};

BackupRequest FromProto(const block::v1::BlockdevBackupRequest& request);
BackupRequest FromProto(const block::v1::DriveBackupRequest& request);

// Graph-command worker. `group` may be null: the job then ends by itself.
std::unique_ptr<transaction::Action> MakeBackupAction(Engine* engine, BackupRequest request,
                                                      std::shared_ptr<job::JobGroup> group);

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_BACKUP_ACTION_H_
