#include "engine/format/qcow2/checkpoint.h"

#include <utility>
#include <vector>

#include "engine/base/status_macros.h"

namespace tidemark::qcow2 {

// Between checkpoints guest data goes to the file at once and metadata changes in memory only, so
// steady writing never waits for a flush. A checkpoint then writes metadata so that a crash at any
// moment leaves a valid image, in which some clusters may be counted that nothing refers to:
//
//   1  refcounts; L2 tables that nothing in the file refers to yet
//   -- flush: all of that, and all guest data written so far, is durable --
//   2  the other L2 tables; L1 entries                    (they refer only to what is durable)
//   -- flush --
//   3  in memory: what the disk had let go of before the checkpoint loses its references. Only now,
//      since until 2 was durable the file still referred to it. It can be allocated again, and
//      step 1 of a later checkpoint writes the lower counts.
//
// The order of capturing matters as much: first the list of freed clusters (their entries are gone
// from the tables in memory), then L1, then L2, then refcounts: whatever is captured finds what it
// relies on captured later. Changes made meanwhile wait for the next checkpoint.
//
// With nothing to write in step 2 the first flush falls away: a flush of an image whose allocation
// does not change is one flush of its file.

absl::Status Checkpointer::Run() {
  mutex_.Lock();
  // One that is running now may have missed the last change: wait for one that has not begun.
  const uint64_t wanted = started_ + 1;
  while (finished_ < wanted) {
    if (running_) {
      finished_changed_.Wait(&mutex_);
      continue;
    }
    running_ = true;
    const uint64_t mine = ++started_;
    mutex_.Unlock();
    absl::Status status = RunAlone();
    mutex_.Lock();
    running_ = false;
    finished_ = mine;
    last_result_ = std::move(status);
    finished_changed_.SignalAll();
  }
  absl::Status result = last_result_;
  mutex_.Unlock();
  return result;
}

// Data first: what is in the file may refer to it.
absl::Status Checkpointer::FlushFiles() {
  if (&data_file_ != &file_) RETURN_IF_ERROR(data_file_.Flush());
  ++counters_.file_flushes;
  return file_.Flush();
}

absl::Status Checkpointer::Write(const Tables::Captured& captured) {
  RETURN_IF_ERROR(refcounts_.WriteBack());
  if (!captured.empty()) {
    RETURN_IF_ERROR(tables_.WriteUnpublished(captured));
    RETURN_IF_ERROR(FlushFiles());
    RETURN_IF_ERROR(tables_.WritePublished(captured));
  }
  return FlushFiles();
}

absl::Status Checkpointer::RunAlone() {
  ++counters_.checkpoints;
  std::vector<Range> freed = frees_.TakePending();
  const Tables::Captured captured = tables_.Capture();
  const absl::Status status = Write(captured);
  tables_.Finish(captured, status.ok());
  if (!status.ok()) {
    frees_.PutBack(freed);
    return status;
  }
  if (!freed.empty()) frees_.Quarantine(std::move(freed), epochs_.Advance());
  return ReleaseRipe();
}

absl::Status Checkpointer::ReleaseRipe() {
  for (const Range& range : frees_.TakeRipe(epochs_)) {
    if (discard_freed_ && (range.offset_bytes | range.length_bytes) % cluster_bytes_ == 0) {
      // While it still counts as used, so that nobody can have begun to use it again. Only a hint,
      // so a failure does not matter.
      for (uint64_t at = range.offset_bytes; at < range.end_bytes(); at += cluster_bytes_) {
        const absl::StatusOr<uint64_t> count = refcounts_.Get(at);
        if (count.ok() && *count == 1) file_.Discard({at, cluster_bytes_}).IgnoreError();
      }
    }
    RETURN_IF_ERROR(refcounts_.Release(range));
  }
  return absl::OkStatus();
}

}  // namespace tidemark::qcow2
