// The background path of a copy: claims what is to be copied, and keeps many chunks of it in
// flight. See copier.h.
//
// Thread rule: one worker at a time.
#ifndef ENGINE_JOB_BACKGROUND_COPY_H_
#define ENGINE_JOB_BACKGROUND_COPY_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/optional.h"
#include "engine/base/executor.h"
#include "engine/job/copier.h"
#include "engine/job/copy_claims.h"
#include "engine/job/copy_lane.h"
#include "engine/storage/aligned_buffer.h"

namespace tidemark::job {

class BackgroundCopy {
 public:
  BackgroundCopy(std::shared_ptr<storage::Storage> source, std::shared_ptr<storage::Storage> target,
                 const CopyOptions& options, CopyClaims* claims, const CopyWorkers& workers);
  ~BackgroundCopy();

  struct Moved {
    uint64_t begun_bytes = 0;
    // Nothing is in flight, and nothing was left to claim.
    bool idle = false;
    absl::optional<IoError> io_error;
  };
  // Begins at most `budget_bytes` (but a chunk), waits for something to end. `share`: guests are
  // about. `stay`: requests may remain in flight, because the next call or Drain follows soon.
  Moved Move(uint64_t budget_bytes, bool share, bool stay);

  // Finds out what sync=top need not copy, a bounded part of it in each call. True when all is
  // known.
  absl::StatusOr<bool> WalkTopLayer();

  // Waits until nothing is in flight.
  void Drain();
  // What has failed is tried again by the next Move, and not told.
  void ForgetError() { io_error_ = absl::nullopt; }
  // What has been read, but could not be written, is given back as not copied. Drained.
  void Drop();

 private:
  // Somebody waits until nothing is in flight on one of the disks.
  bool IsAwaited() const;

  // The next chunk, null if there is nothing to claim or no memory.
  std::unique_ptr<Batch> Gather(uint64_t chunk_bytes, uint64_t scan_bytes_max,
                                uint64_t* scanned_bytes);
  bool GatherStretch(Batch* batch, Range claimed);
  void Settle(Batch* batch);
  void Begin(std::unique_ptr<Batch> batch);
  void Retry();
  void Reap();
  void HandleEnded(std::unique_ptr<Batch> batch);
  void FindZeroes(Batch* batch) const;
  std::unique_ptr<Batch> Forget(Batch* batch);

  // Constant after construction.
  const std::shared_ptr<storage::Storage> source_;
  const std::shared_ptr<storage::Storage> target_;
  const CopyOptions options_;
  CopyClaims* const claims_;
  const uint64_t chunk_bytes_max_;

  storage::BufferPool buffers_;
  CopyLane lane_;
  uint64_t cursor_bytes_ = 0;
  uint64_t walked_bytes_ = 0;
  std::vector<std::unique_ptr<Batch>> in_flight_;
  uint64_t in_flight_bytes_ = 0;
  // Read, but not written: guests may have changed the source since.
  std::vector<std::unique_ptr<Batch>> unwritten_;
  absl::optional<IoError> io_error_;
};

}  // namespace tidemark::job

#endif  // ENGINE_JOB_BACKGROUND_COPY_H_
