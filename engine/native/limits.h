// Every limit of this package in one place. Constants; any thread.
#ifndef ENGINE_NATIVE_LIMITS_H_
#define ENGINE_NATIVE_LIMITS_H_

#include <cstddef>

#include "absl/time/time.h"

namespace tidemark::native {

// Commands on the graph and ends of jobs that run at a time, each on a thread of its own, because
// each may wait for a disk.
inline constexpr int kCommandsRunningMax = 256;
// Of these, on the disks of one mounted file system: one that hangs takes no more.
inline constexpr int kCommandsRunningPerMountMax = 16;
// Commands that wait for their turn. More are refused.
inline constexpr size_t kCommandsWaitingMax = 4096;
// A thread for a command that had nothing to do for so long ends.
inline constexpr absl::Duration kCommandThreadIdleMax = absl::Seconds(10);

// So long are the users of one disk held for an instant because of the requests of another that is
// to be at the same instant, before that one is waited for alone.
inline constexpr absl::Duration kInstantPatience = absl::Seconds(2);

// A query waits for disks no longer: it then tells what they have said last.
inline constexpr absl::Duration kDiskLookMax = absl::Milliseconds(250);

// How long a shutdown waits for each of these before it gives up what hangs: jobs and commands,
// exports, images. Together less than the 90 s after which systemd kills.
inline constexpr absl::Duration kShutdownPatience = absl::Seconds(28);

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_LIMITS_H_
