// What every service of the gRPC front works with. Constant; all of it outlives the server.
#ifndef SERVICE_RPC_FRONT_H_
#define SERVICE_RPC_FRONT_H_

#include <string>

#include "engine/backend/event_log.h"
#include "engine/backend/instance_registry.h"
#include "engine/backend/job_book.h"
#include "engine/base/clock.h"
#include "engine/base/executor.h"
#include "service/dispatch/dispatcher.h"
#include "service/dispatch/router.h"
#include "service/rpc/admission.h"
#include "service/rpc/stream_set.h"

namespace tidemark::rpc {

struct Front {
  const dispatch::Router& router;
  backend::InstanceRegistry& instances;
  backend::EventLog& log;
  backend::JobBook& jobs;
  const dispatch::Dispatcher& dispatcher;
  Admission& calls;
  StreamSet& streams;
  Clock& clock;
  Executor& executor;
  std::string version;
};

}  // namespace tidemark::rpc

#endif  // SERVICE_RPC_FRONT_H_
