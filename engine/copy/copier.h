// The one object that copies: from a source disk to a target disk, what a bitmap says is still to
// be copied, as the source was when the copy was made. Backup is policy on top of it.
//
// Two paths work on the same truth. The background path moves big chunks, many in flight, driven by
// steps. The guest path is called before a guest write changes the source: it saves what is not yet
// copied in a bounded buffer and lets the guest go on; the buffer is written to the target
// afterwards, ahead of the background path.
//
// The guest comes first: a target that fails or stalls never fails a guest write. A guest waits at
// most for the read of its own clusters, and, when kCaptureBytesMax of old data wait already, for
// the target to take some. If the target takes nothing for kGuestStallMax the copy is lost
// (`lost()`) and guests are not held up any more: old data that was overwritten cannot be had
// again. If the old data cannot be read, the copy is lost, too: guests cannot be asked to come back
// later.
//
// The disks are ports of edges that are not gated (graph/port.h), or of edges between nodes: a copy
// goes on through points in time. Behind gates it would be slow, not wrong, unless the gates of
// guests and copy are closed together: a guest that waits for its capture is itself in flight.
//
// Thread rule: Capture from any number of threads that may block. Step and Drain from one worker at
// a time. The rest from any thread.
#ifndef ENGINE_COPY_COPIER_H_
#define ENGINE_COPY_COPIER_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "engine/base/budget.h"
#include "engine/base/clock.h"
#include "engine/base/executor.h"
#include "engine/base/range.h"
#include "engine/bitmap/dirty_bitmap.h"
#include "engine/copy/limits.h"
#include "engine/copy/step.h"
#include "engine/graph/copy_before_write.h"
#include "engine/storage/completion_watch.h"
#include "engine/storage/storage.h"

namespace tidemark::copy {

struct CopyOptions {
  // The copy unit: a power of two. See CopyClusterBytes.
  uint64_t cluster_bytes = 64 * 1024;
  // Nothing outside of the clusters that the source's own layer holds is copied: sync=top. They are
  // found out step by step; the total shrinks meanwhile.
  bool only_top_layer = false;
  // The target is fresh and has no backing image: zeroes need not be written to it.
  bool target_is_zero = false;
  // Store compressed. The target must be able to.
  bool compress = false;
  // Look for zeroes in data that was read, too.
  bool detect_zeroes = false;
  // A guest write waits until its old data is in the target. For targets that are read while the
  // copy runs and show the source where they hold nothing themselves (fleecing): a buffered cluster
  // would read as the new data. A target that stalls then stalls the guest for kGuestStallMax at
  // most.
  bool write_through = false;
  // With write_through: waits until no read of `range` of the target is in flight that may have
  // looked for it there before it was written; false if `gives_up`, which is asked from time to
  // time, has said true before. A guest write waits for that, too, for kGuestStallMax at most. Null
  // if nobody reads the target. Any thread.
  std::function<bool(Range range, const std::function<bool()>& gives_up)> await_target_reads;
  // What fails is told and left out, instead of tried again: whoever drives the copy sees to it
  // that it does not count as one. Not with guest writes.
  bool skips_failed = false;
  // Copy nothing but what guests are about to overwrite: sync=none. Step never says kDone.
  bool only_guest_writes = false;
  // The longest background request, at least a cluster.
  uint64_t chunk_bytes_max = 1024 * 1024;
  // Most bytes that background requests have in flight, at least a cluster.
  uint64_t in_flight_bytes_max = kInFlightBytesMax;
  // How many blocking requests may run at once where batch I/O is not possible.
  int workers_max = 4;
};

// Who works for a copy beside the worker that steps it. Each may be null in tests.
struct CopyWorkers {
  // Writes out what guests overwrite. Not the pool that steps run on, so that guests never queue
  // behind steps. Null: guests write through, themselves.
  Executor* guest = nullptr;
  // Make the calls that may wait for a disk: those to the target, and those to the source (null: as
  // for the target). Executors whose tasks wait for no other tasks: neither of steps nor of guests.
  // Null: the calls are made where they are needed.
  Executor* io = nullptr;
  Executor* source_io = nullptr;
  // With one, and executors for calls, steps never wait: the waker is called when something has
  // ended. Null: they wait.
  std::shared_ptr<storage::CompletionWatch> watch;
  // Bytes that all copies together may hold in buffers, beyond the little that each needs to go on
  // at all. Null: each copy is bounded by its own limits alone.
  Budget* memory = nullptr;
};

// The copy unit that suits a target with these limits.
uint64_t CopyClusterBytes(const storage::Limits& target);

class BlockCopy : public graph::BeforeWrite {
 public:
  // Everything is to be copied that is dirty in `to_copy`, whose granularity is the copy unit. The
  // two disks have the same size. Make, Stop and the queries do no I/O.
  static std::shared_ptr<BlockCopy> Make(std::shared_ptr<storage::Storage> source,
                                         std::shared_ptr<storage::Storage> target,
                                         std::unique_ptr<bitmap::DirtyBitmap> to_copy,
                                         const CopyOptions& options, const CopyWorkers& workers,
                                         Clock* clock);

  // A guest is about to change `range` of the source. Returns when it may. Never fails.
  absl::Status Capture(Range range) override = 0;

  // As Job::Step and Job::Drain. Once Step has said kDone, the target holds everything and was
  // flushed. Fails once the copy is stopped or lost.
  virtual absl::StatusOr<StepResult> Step(uint64_t budget_bytes) = 0;
  virtual bool Drain() = 0;

  // Called, with no lock held, when a Step that said kWait may find work, and when the copy is
  // lost. Set before the first Step.
  virtual void set_waker(std::function<void()> waker) = 0;

  // The user has let the copy go on after a pause: what failed before is tried again by the next
  // Step, and not told. Does not wait.
  virtual void OnResume() = 0;

  // Gives up: guests are not held up any more, and captured data that is not yet in the target is
  // counted as not copied. Does not wait.
  virtual void Stop() = 0;

  // Stops, and waits until nothing is in flight and no guest is inside of Capture. Then what has
  // been written is flushed: if that cannot be done, or has failed before, all of it counts as not
  // copied. After the last Step; may block.
  virtual void Finish() = 0;

  virtual absl::Status lost() const = 0;
  // Where the target shows the source beneath what it holds: whether that is still the instant.
  // False once the copy is stopped or lost before it was complete, and before any guest can make
  // use of it. Any thread; must not block.
  virtual bool shows_instant() const = 0;
  // As Job::TakeError.
  virtual absl::optional<IoError> TakeError() = 0;
  virtual Progress progress() const = 0;
  // Memory that it takes to know what is still to be copied. Grows as parts of large stretches are
  // copied. Any thread.
  virtual uint64_t bitmap_bytes() const = 0;

  // What is not in the target, durably: exact once Step has said kDone, or after Finish.
  virtual const bitmap::DirtyBitmap& not_copied() const = 0;
};

}  // namespace tidemark::copy

#endif  // ENGINE_COPY_COPIER_H_
