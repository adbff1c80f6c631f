// The target that drive-backup creates and opens by itself.
#ifndef ENGINE_NATIVE_JOBS_DRIVE_TARGET_H_
#define ENGINE_NATIVE_JOBS_DRIVE_TARGET_H_

#include "absl/status/statusor.h"
#include "engine/native/engine.h"
#include "engine/native/jobs/backup_request.h"

namespace tidemark::native {

// Creates the file if that is asked for, with the backing image that `sync` calls for, and opens it
// as a node of the engine's: it lives until Graph::LeaveToUsers. `sync` top of a source without
// backing image becomes full. A file that any node has open is refused (IMAGE_LOCKED) before
// anything in it is touched. A file that was created stays if a later step fails. Graph-command
// worker.
absl::StatusOr<graph::Node*> OpenDriveTarget(Engine& engine, BackupRequest* request);

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_JOBS_DRIVE_TARGET_H_
