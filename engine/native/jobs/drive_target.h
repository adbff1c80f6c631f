// The target that drive-backup and drive-mirror create and open by themselves.
#ifndef ENGINE_NATIVE_JOBS_DRIVE_TARGET_H_
#define ENGINE_NATIVE_JOBS_DRIVE_TARGET_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/job/backup_options.h"
#include "engine/native/engine.h"

namespace tidemark::native {

struct DriveTarget {
  std::string path;
  // The driver; empty: found by looking, or for a new file that of the source.
  std::string format;
  // The file exists already.
  bool existing = false;
  // Of the target's node; empty: the graph makes one.
  std::string node_name;
};

// Who wants it, and what for.
struct DriveTargetUse {
  absl::string_view command;  // "drive-backup".
  absl::string_view verb;     // "back up": for "cannot back up".
  std::string job_id;
  std::string source_node;
  bool compress = false;
  // It may take the place of the source: what it is made over is the source's own backing image, or
  // the source itself, and no second opening of its file.
  bool takes_place = false;
};

// Creates the file if that is asked for, with the backing image that `sync` calls for, and opens it
// as a node of the engine's: it lives until Graph::LeaveToUsers. `sync` top of a source without
// backing image becomes full. A file that any node has open is refused (IMAGE_LOCKED) before
// anything in it is touched. A file that was created stays if a later step fails. Graph-command
// worker.
absl::StatusOr<graph::Node*> OpenDriveTarget(Engine& engine, const DriveTarget& target,
                                             const DriveTargetUse& use, job::SyncMode* sync);

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_JOBS_DRIVE_TARGET_H_
