// The life of a job as two tables: which state may follow which, and which verb is allowed in which
// state. Plain data; any thread.
#ifndef ENGINE_JOB_STATE_H_
#define ENGINE_JOB_STATE_H_

#include "absl/strings/string_view.h"

namespace tidemark::job {

enum class JobStatus {
  kUndefined,  // Not yet made; never seen from outside.
  kCreated,
  kRunning,
  kPaused,   // Paused before it was ready.
  kReady,    // Source and target are the same and are kept so.
  kStandby,  // Paused after it was ready.
  kWaiting,  // Its own work is done; others of its group are not.
  kPending,  // Everything but finalizing is done.
  kAborting,
  kConcluded,
  kNull,  // Gone.
};
inline constexpr int kJobStatusCount = static_cast<int>(JobStatus::kNull) + 1;

enum class JobVerb {
  kCancel,
  kPause,
  kResume,
  kSetSpeed,
  kComplete,
  kFinalize,
  kDismiss,
  kChange,
};
inline constexpr int kJobVerbCount = static_cast<int>(JobVerb::kChange) + 1;

// What a job is. All but kCreate are block jobs: they have the BLOCK_JOB_* events and are seen by
// the block-job-* commands.
enum class JobType { kBackup, kMirror, kStream, kCommit, kCreate };

bool CanMove(JobStatus from, JobStatus to);
bool IsAllowed(JobVerb verb, JobStatus status);
bool IsBlockJob(JobType type);

// QEMU's words: "running", "set-speed", "backup".
absl::string_view NameOf(JobStatus status);
absl::string_view NameOf(JobVerb verb);
absl::string_view NameOf(JobType type);

}  // namespace tidemark::job

#endif  // ENGINE_JOB_STATE_H_
