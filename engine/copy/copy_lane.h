// Moves batches of data from one disk to memory and from memory to another disk, with many requests
// in flight. By placements and an IoQueue where a disk can be placed; by blocking calls where not,
// several at once if there are workers for it. Decides nothing: what to copy, and what an error
// means, is its owner's business.
//
// The owner's thread never waits for a disk but in Reap: whatever may block (placing, finishing,
// zeroes) is done by workers, in order for each target. An owner that does not want to wait at all
// reaps without a timeout, arms the lane, and comes again when it is ready.
//
// Thread rule: one thread at a time. Reads go through the page cache unless the user wants
// otherwise; writes go around it where memory, offset and length allow.
#ifndef ENGINE_COPY_COPY_LANE_H_
#define ENGINE_COPY_COPY_LANE_H_

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
#include "engine/storage/completion_watch.h"
#include "engine/storage/io_queue.h"
#include "engine/storage/storage.h"

namespace tidemark::copy {

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
  struct Placed {
    std::unique_ptr<storage::Placement> placement;
    size_t memory_offset = 0;
  };
  // So much of `memory` has been stored compressed: that cannot be done twice, should the rest have
  // to be written again.
  size_t stored_bytes = 0;
  std::vector<Placed> placed;
  std::vector<Piece> unplaced;
  int outstanding = 0;
  bool is_finishing = false;
};

// Who works for a lane beside its owner. Executors may be null: what they would do is then done
// inside of the lane's methods.
struct LaneWorkers {
  // Reading by calls, and whatever else the owner has called there.
  Executor* source = nullptr;
  // Writing by calls.
  Executor* target = nullptr;
  // What is done to a target in order: zeroes, placing, finishing.
  Executor* order = nullptr;
  // Null: the lane cannot be armed.
  std::shared_ptr<storage::CompletionWatch> watch;
  // Called from any thread when a lane that is armed can be reaped. Must not wait, nor destroy a
  // lane.
  std::function<void()> ready;
};

class CopyLane {
 public:
  // At most `blocking_max` calls of source and of target are made at a time.
  CopyLane(LaneWorkers workers, int blocking_max, bool compress);
  // CHECKs that nothing is in flight.
  ~CopyLane();

  // Has `call` made where source or target may be waited for; then, when the lane is reaped, `done`
  // on the owner's thread.
  void CallSource(std::function<void()> call, std::function<void()> done);
  void CallTarget(std::function<void()> call, std::function<void()> done);

  // Finds where the batch's data is. Blocks as the source does: for calls.
  static void PlaceReads(storage::Storage* source, Batch* batch);
  // Begins to fill the batch's memory; its reads have been placed.
  void Read(storage::Storage* source, Batch* batch);
  // Begins to write the batch's data and zeroes. The disk and the batch must stay until the batch
  // has been reaped, here and there.
  void Write(storage::Storage* target, Batch* batch);

  // Appends the batches that have ended; if nothing at all has happened, waits up to `timeout` for
  // something.
  void Reap(absl::Duration timeout, std::vector<Batch*>* ended);

  // Has `ready` called once when there is something to reap. False if there is already.
  bool Arm();
  // Whether `ready` is called for all that is in flight: the machine may lack the means.
  bool is_told() const;

  // Nothing is in flight: neither batches nor calls.
  bool idle() const { return in_flight_ == 0 && calls_in_flight_ == 0; }

 private:
  using Task = std::function<void()>;
  // Calls that wait for one executor, and how many make them.
  struct CallQueue {
    Executor* executor = nullptr;
    int running_max = 1;
    int running_count = 0;
    std::deque<std::pair<Task, Task>> waiting;
  };

  void Begin(Batch* batch, bool is_read);
  // The batch has been placed.
  void Submit(storage::Storage* disk, Batch* batch);
  // One thing less to wait for: a request, a call, or the beginning itself.
  void EndOne(Batch* batch, const absl::Status& status);
  static void PlaceWrites(storage::Storage* target, Batch* batch);
  // Queues the requests for a placement whose first byte is at `memory`.
  void AddRequests(Batch* batch, const storage::Placement& placement, std::byte* memory);
  void AddRequest(const storage::IoQueue::Request& request);
  void AddDirectRequest(const storage::DataFile& file, storage::IoQueue::Request request);
  // Sends on what was added, as far as the queue has room.
  void Feed();
  void MakeQueue();

  void Call(CallQueue* queue, Task call, Task done);
  void RunCalls(CallQueue* queue);
  void Ring();
  bool Collect();
  bool CollectQueue(absl::Duration timeout);
  void Await(absl::Duration timeout);

  // Constant after construction.
  const LaneWorkers workers_;
  const bool compress_;

  // The owner's thread.
  std::unique_ptr<storage::IoQueue> queue_;  // Made when first needed.
  bool is_watched_ = false;
  std::deque<storage::IoQueue::Request> requests_;
  std::vector<storage::IoQueue::Completion> completions_;
  int calls_in_flight_ = 0;
  int in_flight_ = 0;
  std::vector<Batch*> ended_;

  Mutex mutex_;
  CondVar changed_;
  CallQueue source_calls_ ABSL_GUARDED_BY(mutex_);
  CallQueue target_calls_ ABSL_GUARDED_BY(mutex_);
  CallQueue target_order_ ABSL_GUARDED_BY(mutex_);
  // What is left to do for the owner, of calls that were made.
  std::vector<Task> returned_ ABSL_GUARDED_BY(mutex_);
  bool is_armed_ ABSL_GUARDED_BY(mutex_) = false;
  // The owner waits there.
  storage::IoQueue* waits_at_ ABSL_GUARDED_BY(mutex_) = nullptr;
};

}  // namespace tidemark::copy

#endif  // ENGINE_COPY_COPY_LANE_H_
