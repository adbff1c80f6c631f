// The background path of a copy: claims what is to be copied, and keeps many chunks of it in
// flight. See copier.h.
//
// Where there is somebody to tell it that something has ended (LaneWorkers::watch) no method but
// Drain waits for a disk; otherwise Move, Walk and Flush wait as well.
//
// Thread rule: one worker at a time.
#ifndef ENGINE_COPY_BACKGROUND_COPY_H_
#define ENGINE_COPY_BACKGROUND_COPY_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "engine/copy/copier.h"
#include "engine/copy/copy_claims.h"
#include "engine/copy/copy_lane.h"
#include "engine/copy/extent_walk.h"
#include "engine/storage/aligned_buffer.h"

namespace tidemark::copy {

class BackgroundCopy {
 public:
  BackgroundCopy(std::shared_ptr<storage::Storage> source, std::shared_ptr<storage::Storage> target,
                 const CopyOptions& options, CopyClaims* claims, LaneWorkers workers,
                 Budget* memory);
  ~BackgroundCopy();

  struct Moved {
    // Claimed, and not told before.
    uint64_t begun_bytes = 0;
    // All is done: nothing is in flight, and nothing was left to claim, to walk, or to flush.
    bool idle = false;
    // There is nothing to do until the lane is ready, or `delay` is over.
    bool waits = false;
    absl::Duration delay = absl::InfiniteDuration();
    bool in_flight = false;
    absl::optional<IoError> io_error;
  };
  // Goes on with what has ended, and begins at most `budget_bytes` (but a chunk). `share`: guests
  // are about.
  Moved Move(uint64_t budget_bytes, bool share);
  // Finds out what sync=top need not copy, a bounded part of it in each call.
  Moved Walk();
  // Makes durable what was written. Knows of no errors but its own.
  Moved Flush();
  // Others have written to the target, too: the next Flush is one. Drained.
  void ForgetFlush() { flushed_ = absl::nullopt; }

  // Goes on with what was begun, and begins nothing. True if nothing is in flight any more; false
  // if the lane will be ready.
  bool TryDrain();
  // Waits until nothing is in flight.
  void Drain();
  // What has failed is tried again by the next Move, and not told.
  void ForgetError() { io_error_ = absl::nullopt; }
  // What has been read, but could not be written, is given back as not copied. Drained.
  void Drop();

 private:
  // What is found and claimed by one call.
  struct Gathered {
    uint64_t chunk_bytes = 0;
    uint64_t room_bytes = 0;
    uint64_t scan_bytes_max = 0;
    bool is_limited = false;
    std::vector<std::unique_ptr<Batch>> batches;
    uint64_t data_bytes = 0;
    uint64_t scanned_bytes = 0;
    absl::optional<IoError> io_error;
  };

  // Somebody waits until nothing is in flight on one of the disks.
  bool IsAwaited() const;
  bool CanBegin() const { return !io_error_.has_value() && !claims_->is_open() && !IsAwaited(); }
  uint64_t RoomBytes(uint64_t chunk_bytes, bool share) const;
  void Rest(Moved* moved);
  void Wait(Moved* moved);
  uint64_t TakeBegun(bool is_limited);

  void BeginGather(uint64_t chunk_bytes, uint64_t room_bytes, uint64_t budget_bytes);
  void EndGather(Gathered* gathered);
  // ---- Where the source may be waited for
  void Gather(Gathered* gathered);
  std::unique_ptr<Batch> GatherBatch(Gathered* gathered);
  absl::optional<Range> ClaimNext(uint64_t length_bytes_max);
  bool GatherStretch(Gathered* gathered, Batch* batch, Range claimed, uint64_t room_bytes);
  absl::StatusOr<std::vector<Stretch>> WalkClaimed(Range* claimed, uint64_t room_bytes);
  void NoteHole(Range claimed, const std::vector<Stretch>& stretches);
  void Sort(Batch* batch, const std::vector<Stretch>& stretches);
  absl::Status WalkSome();
  // ----
  void GiveBack(Range claimed);
  void SkipFailed(Range claimed);
  void Settle(Batch* batch);
  void Begin(std::unique_ptr<Batch> batch);
  void Retry();
  void Reap(absl::Duration timeout);
  void HandleEnded(std::unique_ptr<Batch> batch);
  void FindZeroes(Batch* batch) const;
  std::unique_ptr<Batch> Forget(Batch* batch);

  // Constant after construction.
  const std::shared_ptr<storage::Storage> source_;
  const std::shared_ptr<storage::Storage> target_;
  const CopyOptions options_;
  CopyClaims* const claims_;
  const bool can_wait_;  // Nobody tells: waiting is how to know.
  const uint64_t chunk_bytes_max_;

  storage::BufferPool buffers_;
  CopyLane lane_;
  std::vector<std::unique_ptr<Batch>> in_flight_;
  uint64_t in_flight_bytes_ = 0;
  // Read, but not written: guests may have changed the source since.
  std::vector<std::unique_ptr<Batch>> unwritten_;
  absl::optional<IoError> io_error_;
  // A call that gathers, walks or flushes is under way.
  bool is_calling_ = false;
  // There was nothing to be had when it was last asked for, for want of memory: not before
  // something of its own has ended is it worth asking again.
  bool is_starved_ = false;
  // What gathering has begun, and nobody has been told of: under a limit, and without.
  uint64_t begun_limited_bytes_ = 0;
  uint64_t begun_free_bytes_ = 0;
  // Of the last flush, until more is written, or until it has been told that it failed.
  absl::optional<absl::Status> flushed_;

  // The calls' own: there is one at a time.
  uint64_t cursor_bytes_ = 0;
  uint64_t walked_bytes_ = 0;
  // So much was a hole all through when it was claimed last: the next claim is greater.
  uint64_t hole_bytes_ = 0;
};

}  // namespace tidemark::copy

#endif  // ENGINE_COPY_BACKGROUND_COPY_H_
