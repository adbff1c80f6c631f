// Every limit of this package, by name.
#ifndef ENGINE_COPY_LIMITS_H_
#define ENGINE_COPY_LIMITS_H_

#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"

namespace tidemark::copy {

// The least copy unit, whatever the target's cluster size is.
inline constexpr uint32_t kCopyClusterMin = 64 * 1024;
// Background copy with no guest about: chunk size, and bytes in flight.
inline constexpr size_t kChunkBytesMax = 1024 * 1024;
inline constexpr size_t kInFlightBytesMax = 16 * 1024 * 1024;
// The same while guest writes are being captured.
inline constexpr size_t kChunkBytesShared = 256 * 1024;
inline constexpr size_t kInFlightBytesShared = 4 * kChunkBytesShared;
// How long after the last capture the background copy takes the whole disk again.
inline constexpr absl::Duration kGuestQuiet = absl::Milliseconds(200);
// Requests that one copy keeps in flight, whatever their size.
inline constexpr int kQueueDepth = 256;
// Old data of guest writes that waits to be written to the target, each copy. A stretch of zeroes
// counts as kZeroRecordBytes.
inline constexpr size_t kCaptureBytesMax = 32 * 1024 * 1024;
inline constexpr size_t kZeroRecordBytes = 4096;
// So much of it each copy may have whatever others hold; the rest is of the budget for all.
inline constexpr size_t kCaptureBytesUnbudgeted = 4 * 1024 * 1024;
// What a guest claims at a time, and reads of it at a time (but a cluster).
inline constexpr uint64_t kCaptureClaimBytes = 16 * 1024 * 1024;
inline constexpr size_t kCapturePieceBytes = 1024 * 1024;
// Bytes of captured data on their way to the target at one time.
inline constexpr size_t kWriteOutBytesMax = 4 * 1024 * 1024;
// Captures that one task begins to write before the tasks of other copies have their turn.
inline constexpr int kCapturesPerTurnMax = 256;
// How long a guest write may wait at a full buffer while the target takes nothing at all; then the
// job is given up and the guest goes on. Longer than a busy disk's hiccups and the 7 seconds that a
// disk may take to recover from an error of its own, which would cost a backup; much shorter than
// the 30 seconds after which guests reset a disk.
inline constexpr absl::Duration kGuestStallMax = absl::Seconds(10);
// The same while the target is known to have failed: it may stay so until somebody frees space.
inline constexpr absl::Duration kGuestStallFailedMax = absl::Seconds(1);
// A step that only looks for what is to be copied looks at so many stretches, so long each: guests
// that want to change one wait meanwhile.
inline constexpr int kWalksPerStep = 16;
inline constexpr uint64_t kWalkBytesMax = 16 * 1024 * 1024;

// How often a copy that only guests move on looks how far it has come.
inline constexpr absl::Duration kGuestProgressInterval = absl::Milliseconds(100);

// How often a mirror that has nothing to do looks for changes that no guest's request has told of.
inline constexpr absl::Duration kMirrorLookAround = absl::Milliseconds(500);

// How often a guest that waits looks whether it waits in vain.
inline constexpr absl::Duration kGuestLookAround = absl::Milliseconds(20);
// The longest wait for the end of a request, before the waiter looks around.
inline constexpr absl::Duration kReapTimeout = absl::Milliseconds(100);
// What one batch is gathered from at most, and how many batches by one call: a disk of small holes
// must not be one endless call.
inline constexpr int kStretchesPerBatchMax = 64;
inline constexpr int kBatchesPerGatherMax = 64;
// What is claimed of a hole at one time: where nothing is to be done about it; where zeroes are
// written to the target, and that is cheap; where they may have to be written as data.
inline constexpr uint64_t kHoleBytesMax = uint64_t{64} * 1024 * 1024 * 1024;
inline constexpr uint64_t kZeroBytesMax = uint64_t{1024} * 1024 * 1024;
inline constexpr uint64_t kZeroBytesSlowMax = uint64_t{64} * 1024 * 1024;
// How often a copy looks for what has ended, where the machine has no means to tell it.
inline constexpr absl::Duration kUntoldInterval = absl::Milliseconds(2);

}  // namespace tidemark::copy

#endif  // ENGINE_COPY_LIMITS_H_
