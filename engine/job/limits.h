// Every limit of this package, by name.
#ifndef ENGINE_JOB_LIMITS_H_
#define ENGINE_JOB_LIMITS_H_

#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"

namespace tidemark::job {

// Jobs that exist at one time, concluded ones that nobody dismissed included.
inline constexpr size_t kJobsMax = 1024;
// Steps, and time, of one turn on a worker; then other jobs have theirs.
inline constexpr int kStepsPerTurnMax = 64;
inline constexpr absl::Duration kTurnMax = absl::Milliseconds(100);
// The least time between two progress reports of one job.
inline constexpr absl::Duration kProgressInterval = absl::Milliseconds(100);
// The pause before an ignored error is tried again: doubled with every failure in a row.
inline constexpr absl::Duration kRetryDelayMin = absl::Milliseconds(1);
inline constexpr absl::Duration kRetryDelayMax = absl::Milliseconds(100);
// What may begin at one moment under a speed limit, in time: the average over seconds is what
// counts.
inline constexpr absl::Duration kSpeedSlice = absl::Milliseconds(50);

// How long guests are held for the last step of a job: much shorter than what they notice as a disk
// that hangs.
inline constexpr absl::Duration kGuestHoldMax = absl::Seconds(2);

// The greatest that x-perf.min-cluster-size may ask for: the largest cluster that qcow2 has.
inline constexpr uint64_t kMinClusterBytesMax = 2 * 1024 * 1024;

// How often a job that is to be paused or ended is asked whether it has drained, if it does not say
// so by itself.
inline constexpr absl::Duration kDrainInterval = absl::Milliseconds(20);

}  // namespace tidemark::job

#endif  // ENGINE_JOB_LIMITS_H_
