// blockdev-backup and drive-backup as actions of a transaction; alone they are transactions of one.
//
// At the instant a copy-before-write filter goes above the source, the bitmap is frozen and its
// successor records on, and the job is created. When the job ends, its hooks hand the bitmap over
// and take the filter away, again at an instant of their own.
#ifndef ENGINE_NATIVE_JOBS_BACKUP_ACTION_H_
#define ENGINE_NATIVE_JOBS_BACKUP_ACTION_H_

#include <memory>

#include "engine/job/job_group.h"
#include "engine/native/engine.h"
#include "engine/native/jobs/backup_request.h"
#include "engine/transaction/transaction.h"

namespace tidemark::native {

// Graph-command worker. `group` may be null: the job then ends by itself.
std::unique_ptr<transaction::Action> MakeBackupAction(Engine* engine, BackupRequest request,
                                                      std::shared_ptr<job::JobGroup> group);

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_JOBS_BACKUP_ACTION_H_
