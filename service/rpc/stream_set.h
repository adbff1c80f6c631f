// The streams and waits that are open: bounded, and ended together when the service stops. Any
// thread.
#ifndef SERVICE_RPC_STREAM_SET_H_
#define SERVICE_RPC_STREAM_SET_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/backend/event_log.h"
#include "engine/base/mutex.h"
#include "service/rpc/admission.h"
#include "service/rpc/limits.h"
#include "service/rpc/pump.h"

namespace tidemark::rpc {

class StreamSet {
 public:
  explicit StreamSet(Admission::Limits limits) : admission_("stream", limits) {}

  // A stream of `peer`, which holds `bytes` of memory besides what each has. RESOURCE_EXHAUSTED
  // (kLimitReached) if there are too many, of this peer or of all.
  absl::Status Add(const std::shared_ptr<Pump>& pump, absl::string_view peer, uint64_t bytes) {
    auto ticket = admission_.Enter(peer, kCallBytes + bytes);
    if (!ticket.ok()) return ticket.status();
    MutexLock lock(&mutex_);
    pumps_.emplace(pump, Stream{*std::move(ticket)});
    return absl::OkStatus();
  }

  // The place of a stream that no pump drives, and that ends by itself.
  absl::StatusOr<Admission::Ticket> Enter(absl::string_view peer) {
    return admission_.Enter(peer, kCallBytes);
  }

  // What the stream has read from the log, and has yet to send, is also of its memory, in place of
  // what it had read before. `events` keep what there is room for, but always the first.
  void Hold(const std::shared_ptr<Pump>& pump, std::vector<backend::EventPtr>* events);

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
      for (const auto& entry : pumps_) pumps.push_back(entry.first);
    }
    for (const auto& pump : pumps) pump->Kick();
  }

  // A stream that finds nothing more to tell ends now.
  bool ending() const { return ending_; }

  // All that they hold.
  uint64_t bytes() const { return admission_.bytes(); }

  // How many there may be at most, of all clients.
  size_t streams_max() const { return admission_.room_for(kCallBytes); }

  size_t size() const {
    MutexLock lock(&mutex_);
    return pumps_.size();
  }

 private:
  struct Stream {
    Admission::Ticket ticket;
    // Of what it has read.
    uint64_t read_bytes = 0;
  };

  Admission admission_;
  std::atomic<bool> ending_{false};

  mutable Mutex mutex_;
  std::map<std::shared_ptr<Pump>, Stream> pumps_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tidemark::rpc

#endif  // SERVICE_RPC_STREAM_SET_H_
