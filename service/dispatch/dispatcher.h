// The one way in for every command of the mirror, whoever sends it: a gRPC client or the startup
// file. Checks what needs no state, finds the engine, and sees to sequences. Knows no gRPC and no
// command. Any thread; never blocks.
#ifndef SERVICE_DISPATCH_DISPATCHER_H_
#define SERVICE_DISPATCH_DISPATCHER_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "engine/backend/backend.h"
#include "engine/backend/event_log.h"
#include "engine/base/lookup_pool.h"
#include "engine/base/path_policy.h"
#include "service/dispatch/router.h"

namespace tidemark::dispatch {

class Dispatcher {
 public:
  // All must outlive the dispatcher and every call. File names that `paths` confines are looked up
  // in `lookups` before an engine sees them: whose disk does not answer is refused (UNAVAILABLE).
  // Confined virtual machines find the formats of files by themselves only with `probe_formats`.
  Dispatcher(const Router& router, backend::EventLog& log, const PathPolicy& paths,
             LookupPool& lookups, bool probe_formats = false)
      : router_(router),
        log_(log),
        paths_(std::make_shared<const PathPolicy>(paths)),
        lookups_(lookups),
        probe_formats_(probe_formats) {}

  // Told of the answer of a call, and of the position of the log when the engine gave it.
  using Done = std::function<void(absl::Status status, uint64_t position)>;

  // As Backend::Call, but that `done` runs only once readers of the log are shown all that had
  // happened when the engine answered: whoever has the answer finds the job in the book, and what
  // the answer tells outlives the process if events do. On success the `event_sequence` of the
  // response is set.
  void Call(const backend::Command& command, const google::protobuf::Message& request,
            google::protobuf::Message* response, Done done) const;

  // From now on every call is refused with kShuttingDown.
  void Stop() { stopped_ = true; }

 private:
  void Refuse(absl::Status status, const Done& done) const {
    done(std::move(status), log_.shown());
  }
  void Hand(std::shared_ptr<backend::Backend> backend, const backend::Command& command,
            const google::protobuf::Message& request, google::protobuf::Message* response,
            Done done) const;

  const Router& router_;
  backend::EventLog& log_;
  const std::shared_ptr<const PathPolicy> paths_;
  LookupPool& lookups_;
  const bool probe_formats_;
  std::atomic<bool> stopped_{false};
};

// The instance that a request names; empty for the native engine.
std::string InstanceOf(const backend::Command& command, const google::protobuf::Message& request);

}  // namespace tidemark::dispatch

#endif  // SERVICE_DISPATCH_DISPATCHER_H_
