// Moves batches of data from one disk to memory and from memory to another disk, with many requests
// in flight. By placements and an IoQueue where a disk can be placed; by blocking calls where not,
// several at once if there are workers for it. Decides nothing: what to copy, and what an error
// means, is its owner's business.
//
// Thread rule: one thread at a time. Reads go through the page cache unless the user wants
// otherwise; writes go around it where memory, offset and length allow.
#ifndef ENGINE_JOB_COPY_LANE_H_
#define ENGINE_JOB_COPY_LANE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "engine/base/executor.h"
#include "engine/base/mutex.h"
#include "engine/base/range.h"
#include "engine/storage/aligned_buffer.h"
#include "engine/storage/io_queue.h"
#include "engine/storage/storage.h"

namespace tidemark::job {

// Clusters that travel together. Ranges are of the disk, the same on both sides.
struct Batch {
  struct Piece {
    Range range;
    size_t memory_offset = 0;  // Where its bytes are in `memory`.
  };

  // For the owner.
  // Ascending, and back to back in memory.
  std::vector<Piece> data;
  std::vector<Range> zeroes;
  size_t data_bytes = 0;
  // What holds the data: one of the two.
  absl::optional<storage::BufferPool::Loan> loan;
  storage::AlignedBuffer own;
  std::byte* memory = nullptr;
  // The result of the last Read or Write.
  bool was_read = false;
  absl::Status status;

  // Appends a stretch of data, joined with the one before if it follows it.
  void AddData(Range range);
  void AddZeroes(Range range);

  // For the lane.
  // So much of `memory` has been stored compressed: that cannot be done twice, should the rest have
  // to be written again.
  size_t stored_bytes = 0;
  std::vector<std::unique_ptr<storage::Placement>> placements;
  int outstanding = 0;
};

class CopyLane {
 public:
  // `workers` may be null: blocking calls are then made inside of Read and Write. At most
  // `blocking_max` are made at a time.
  CopyLane(Executor* workers, int blocking_max, bool compress);
  // CHECKs that nothing is in flight.
  ~CopyLane();

  // Begins to fill the batch's memory, or to write its data and zeroes. The disk and the batch must
  // stay until the batch has been reaped.
  void Read(storage::Storage* source, Batch* batch);
  void Write(storage::Storage* target, Batch* batch);

  // Appends the batches that have ended; waits up to `timeout` for the first.
  void Reap(absl::Duration timeout, std::vector<Batch*>* ended);

  // Batches begun and not yet reaped.
  int in_flight() const { return in_flight_; }

 private:
  using Call = std::function<absl::Status()>;

  void Begin(Batch* batch, bool is_read);
  // One thing less to wait for: a request, a call, or the beginning itself.
  void EndOne(Batch* batch, const absl::Status& status);
  void PlaceReads(storage::Storage* source, Batch* batch, std::vector<Batch::Piece>* unplaced);
  void PlaceWrites(storage::Storage* target, Batch* batch, std::vector<Batch::Piece>* unplaced);
  // Queues the requests for a placement whose first byte is at `memory`.
  void AddRequests(Batch* batch, const storage::Placement& placement, std::byte* memory);
  void AddRequest(const storage::IoQueue::Request& request);
  void AddDirectRequest(const storage::DataFile& file, storage::IoQueue::Request request);
  // Sends on what was added, as far as the queue has room.
  void Feed();
  void RunBlocking(Batch* batch, Call call);
  void FeedCalls();
  void CollectQueue(absl::Duration timeout);
  void CollectCalls(absl::Duration timeout);

  // Constant after construction.
  Executor* const workers_;
  const int blocking_max_;
  const bool compress_;

  // The owner's thread.
  std::unique_ptr<storage::IoQueue> queue_;  // Made when first needed.
  std::deque<storage::IoQueue::Request> requests_;
  std::vector<storage::IoQueue::Completion> completions_;
  std::deque<std::pair<Batch*, Call>> calls_;
  int calls_in_flight_ = 0;
  int in_flight_ = 0;
  std::vector<Batch*> ended_;

  Mutex mutex_;
  CondVar returned_changed_;
  std::vector<std::pair<Batch*, absl::Status>> returned_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tidemark::job

#endif  // ENGINE_JOB_COPY_LANE_H_
