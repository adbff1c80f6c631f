// The one way in for every command of the mirror, whoever sends it: a gRPC client or the startup
// file. Checks what needs no state, finds the engine, and sees to sequences. Knows no gRPC and no
// command. Any thread; never blocks.
#ifndef SERVICE_DISPATCH_DISPATCHER_H_
#define SERVICE_DISPATCH_DISPATCHER_H_

#include <atomic>
#include <string>

#include "engine/backend/backend.h"
#include "engine/backend/event_log.h"
#include "engine/base/executor.h"
#include "engine/base/path_policy.h"
#include "service/dispatch/router.h"

namespace tidemark::dispatch {

class Dispatcher {
 public:
  // All must outlive the dispatcher and every call. File names are resolved on `workers`, since a
  // disk may make that wait.
  Dispatcher(const Router& router, const backend::EventLog& log, const PathPolicy& paths,
             Executor& workers)
      : router_(router), log_(log), paths_(paths), workers_(workers) {}

  // As Backend::Call. On success the `event_sequence` of the response is set.
  void Call(const backend::Command& command, const google::protobuf::Message& request,
            google::protobuf::Message* response, backend::Backend::Done done) const;

  // From now on every call is refused with kShuttingDown.
  void Stop() { stopped_ = true; }

 private:
  void Hand(std::shared_ptr<backend::Backend> backend, const backend::Command& command,
            const google::protobuf::Message& request, google::protobuf::Message* response,
            backend::Backend::Done done) const;

  const Router& router_;
  const backend::EventLog& log_;
  const PathPolicy& paths_;
  Executor& workers_;
  std::atomic<bool> stopped_{false};
};

// The instance that a request names; empty for the native engine.
std::string InstanceOf(const backend::Command& command, const google::protobuf::Message& request);

}  // namespace tidemark::dispatch

#endif  // SERVICE_DISPATCH_DISPATCHER_H_
