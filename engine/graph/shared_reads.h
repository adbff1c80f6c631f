// Reads of a node that shows another where it holds nothing itself, while a copy fills it with what
// the other is about to lose (fleecing). Such a read looks into the node first and then reads the
// other; in between the copy could have filled the node, and the other been overwritten. So reads
// share their stretch, and whoever has copied something takes it for a moment before the other may
// change: who has not seen the copy has then finished. Once the other changes and nothing is copied
// any more, because the copy was given up, such reads fail: nobody is shown a mixture.
#ifndef ENGINE_GRAPH_SHARED_READS_H_
#define ENGINE_GRAPH_SHARED_READS_H_

#include <atomic>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/base/mutex.h"
#include "engine/base/range_lock.h"
#include "engine/storage/storage.h"

namespace tidemark::graph {

// The readers of one node. Any thread.
class SharedReads {
 public:
  // Whether the node still shows what it is to show. Must not block.
  using Check = std::function<bool()>;

  // From now on reads are shared, until as many Ends. A read that is in flight now is not waited
  // for: the gates above are closed.
  void Begin(const void* user) {
    MutexLock lock(&mutex_);
    checks_.emplace(user, nullptr);
    user_count_ = checks_.size();
  }
  void SetCheck(const void* user, Check check) {
    MutexLock lock(&mutex_);
    checks_.at(user) = std::move(check);
  }
  void End(const void* user) {
    MutexLock lock(&mutex_);
    checks_.erase(user);
    user_count_ = checks_.size();
  }
  bool in_use() const { return user_count_.load() > 0; }
  // IO_ERROR if one of the checks fails: what was read before may be wrong.
  absl::Status CheckAll() const;

  RangeLock::Hold Share(Range range) { return lock_.Share(range); }
  // Waits until no read of `range` is in flight that began before; false if `gives_up`, which is
  // asked every `interval`, has said true before.
  bool Await(Range range, absl::Duration interval, const std::function<bool()>& gives_up) {
    return lock_.Take(range, interval, gives_up).has_value();
  }

 private:
  // Own synchronisation: that of `checks_`, for reads when there is none.
  std::atomic<size_t> user_count_{0};
  RangeLock lock_;

  mutable Mutex mutex_;
  std::map<const void*, Check> checks_ ABSL_GUARDED_BY(mutex_);
};

// Thread rule: as every storage. While the reads are shared, long ones are done in parts, so that
// nobody waits for more than one, and none are placed: a placement could be held for ever.
class SharedReadsStorage final : public storage::ForwardingStorage {
 public:
  SharedReadsStorage(std::shared_ptr<storage::Storage> next, std::shared_ptr<SharedReads> reads)
      : ForwardingStorage(std::move(next)), reads_(std::move(reads)) {}

  absl::Status Read(uint64_t offset_bytes, storage::Bytes buffer) override;
  absl::StatusOr<storage::Extent> Map(Range range) override;
  absl::StatusOr<std::unique_ptr<storage::Placement>> PlaceRead(Range range) override;
  absl::StatusOr<std::unique_ptr<storage::Placement>> PlaceWrite(Range range) override;

 private:
  const std::shared_ptr<SharedReads> reads_;
};

}  // namespace tidemark::graph

#endif  // ENGINE_GRAPH_SHARED_READS_H_
