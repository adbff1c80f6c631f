// The streams and waits that are open: bounded, and ended together when the service stops. Any
// thread.
#ifndef SERVICE_RPC_STREAM_SET_H_
#define SERVICE_RPC_STREAM_SET_H_

#include <atomic>
#include <memory>
#include <set>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/base/mutex.h"
#include "service/rpc/limits.h"
#include "service/rpc/pump.h"

namespace tidemark::rpc {

class StreamSet {
 public:
  explicit StreamSet(size_t streams_max = kStreamsMax) : streams_max_(streams_max) {}

  // RESOURCE_EXHAUSTED (kLimitReached) if there are too many.
  absl::Status Add(const std::shared_ptr<Pump>& pump) {
    MutexLock lock(&mutex_);
    if (pumps_.size() >= streams_max_) {
      return Error(Reason::kLimitReached, absl::StrCat("There are ", streams_max_,
                                                       " streams already, which is the limit"));
    }
    pumps_.insert(pump);
    return absl::OkStatus();
  }

  void Remove(const std::shared_ptr<Pump>& pump) {
    MutexLock lock(&mutex_);
    pumps_.erase(pump);
  }

  // Every stream tells what the log holds by now and then ends with UNAVAILABLE (kShuttingDown).
  void EndAll() {
    ending_ = true;
    std::vector<std::shared_ptr<Pump>> pumps;
    {
      MutexLock lock(&mutex_);
      pumps.assign(pumps_.begin(), pumps_.end());
    }
    for (const auto& pump : pumps) pump->Kick();
  }

  // A stream that finds nothing more to tell ends now.
  bool ending() const { return ending_; }

  size_t size() const {
    MutexLock lock(&mutex_);
    return pumps_.size();
  }

 private:
  const size_t streams_max_;
  std::atomic<bool> ending_{false};

  mutable Mutex mutex_;
  std::set<std::shared_ptr<Pump>> pumps_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tidemark::rpc

#endif  // SERVICE_RPC_STREAM_SET_H_
