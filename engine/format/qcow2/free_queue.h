// Clusters of the file that the disk has let go of, on their way to being free: first until nothing
// durable refers to them any more, then until no request that began before can still be using them.
// Any thread.
#ifndef ENGINE_FORMAT_QCOW2_FREE_QUEUE_H_
#define ENGINE_FORMAT_QCOW2_FREE_QUEUE_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "engine/base/mutex.h"
#include "engine/base/range.h"
#include "engine/format/qcow2/limits.h"
#include "engine/format/qcow2/request_epochs.h"

namespace tidemark::qcow2 {

class FreeQueue {
 public:
  explicit FreeQueue(uint64_t cluster_bytes) : cluster_bytes_(cluster_bytes) {}

  // One reference to every cluster that `host_range` touches is to go. Call it after the tables in
  // memory have stopped referring to them.
  void Add(Range host_range) {
    MutexLock lock(&mutex_);
    pending_bytes_ += host_range.length_bytes;
    if (!pending_.empty() && pending_.back().end_bytes() == host_range.offset_bytes &&
        IsWholeClusters(host_range) && IsWholeClusters(pending_.back())) {
      pending_.back().length_bytes += host_range.length_bytes;
      return;
    }
    pending_.push_back(host_range);
  }

  // It is time for a checkpoint.
  bool IsLong() const {
    MutexLock lock(&mutex_);
    return pending_bytes_ > kPendingFreeBytesMax || pending_.size() > kPendingFreesMax;
  }
  bool empty() const {
    MutexLock lock(&mutex_);
    return pending_.empty() && quarantined_.empty();
  }

  // What was added so far; a checkpoint makes it durable that the disk has let go of it.
  std::vector<Range> TakePending() {
    MutexLock lock(&mutex_);
    pending_bytes_ = 0;
    return std::exchange(pending_, {});
  }
  // The checkpoint failed.
  void PutBack(const std::vector<Range>& ranges) {
    for (const Range& range : ranges) Add(range);
  }
  // The checkpoint succeeded; `tag` is of RequestEpochs::Advance after that.
  void Quarantine(std::vector<Range> ranges, uint64_t tag) {
    if (ranges.empty()) return;
    MutexLock lock(&mutex_);
    quarantined_.push_back({tag, std::move(ranges)});
  }
  // Those that nobody can be using any more.
  std::vector<Range> TakeRipe(const RequestEpochs& epochs) {
    MutexLock lock(&mutex_);
    std::vector<Range> ripe;
    std::erase_if(quarantined_, [&](const auto& entry) {
      if (!epochs.Drained(entry.first)) return false;
      ripe.insert(ripe.end(), entry.second.begin(), entry.second.end());
      return true;
    });
    return ripe;
  }

 private:
  // Ranges that are not whole clusters (compressed data) share clusters, each with a reference of
  // its own, and must stay apart.
  bool IsWholeClusters(Range range) const {
    return ((range.offset_bytes | range.length_bytes) & (cluster_bytes_ - 1)) == 0;
  }

  const uint64_t cluster_bytes_;

  mutable Mutex mutex_;
  std::vector<Range> pending_ ABSL_GUARDED_BY(mutex_);
  uint64_t pending_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<std::pair<uint64_t, std::vector<Range>>> quarantined_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tidemark::qcow2

#endif  // ENGINE_FORMAT_QCOW2_FREE_QUEUE_H_
