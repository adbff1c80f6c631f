#include "service/rpc/instance_service.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/backend/validate.h"
#include "engine/base/error.h"
#include "service/dispatch/capabilities_response.h"
#include "service/rpc/error_status.h"
#include "service/rpc/filter.h"
#include "service/rpc/instance_stream.h"
#include "service/rpc/limits.h"

namespace tidemark::rpc {

namespace v1 = ::tidemark::block::v1;
using grpc::CallbackServerContext;
using grpc::ServerUnaryReactor;

namespace {

// Once readers of the log are shown all that has happened by now.
void FinishWhenShown(backend::EventLog& log, CallbackServerContext* context,
                     ServerUnaryReactor* reactor, const grpc::Status& status) {
  const uint64_t position = log.position();
  log.RunWhenShown(position, [&log, position, context, reactor, status] {
    AddSequence(log, position, context);
    reactor->Finish(status);
  });
}

}  // namespace

ServerUnaryReactor* InstanceService::CreateInstance(CallbackServerContext* context,
                                                    const v1::CreateInstanceRequest* request,
                                                    v1::CreateInstanceResponse* response) {
  const uint64_t position = front_.log.shown();
  if (absl::Status valid = backend::Validate(*request); !valid.ok()) {
    return FinishUnary(front_.log, position, context, valid, request->id());
  }
  ServerUnaryReactor* const reactor = context->DefaultReactor();
  response->set_event_sequence(front_.log.position());
  front_.instances.Create(*request, [this, context, request, response,
                                     reactor](absl::StatusOr<v1::Instance> instance) {
    if (instance.ok()) *response->mutable_instance() = *std::move(instance);
    FinishWhenShown(front_.log, context, reactor, ToGrpcStatus(instance.status(), request->id()));
  });
  return reactor;
}

ServerUnaryReactor* InstanceService::DeleteInstance(CallbackServerContext* context,
                                                    const v1::DeleteInstanceRequest* request,
                                                    v1::DeleteInstanceResponse* response) {
  const uint64_t position = front_.log.shown();
  if (absl::Status valid = backend::Validate(*request); !valid.ok()) {
    return FinishUnary(front_.log, position, context, valid, request->id());
  }
  ServerUnaryReactor* const reactor = context->DefaultReactor();
  response->set_event_sequence(front_.log.position());
  front_.instances.Delete(
      request->id(), [this, context, request, reactor](const absl::Status& status) {
        FinishWhenShown(front_.log, context, reactor, ToGrpcStatus(status, request->id()));
      });
  return reactor;
}

ServerUnaryReactor* InstanceService::GetInstance(CallbackServerContext* context,
                                                 const v1::GetInstanceRequest* request,
                                                 v1::GetInstanceResponse* response) {
  const uint64_t position = front_.log.shown();
  absl::Status status = backend::Validate(*request);
  if (status.ok()) {
    auto instance = front_.instances.Get(request->id());
    status = instance.status();
    if (status.ok()) *response->mutable_instance() = *std::move(instance);
  }
  return FinishUnary(front_.log, position, context, status, request->id());
}

// The token of a page is the name of the last instance before it.
ServerUnaryReactor* InstanceService::ListInstances(CallbackServerContext* context,
                                                   const v1::ListInstancesRequest* request,
                                                   v1::ListInstancesResponse* response) {
  const uint64_t position = front_.log.shown();
  if (absl::Status valid = backend::Validate(*request); !valid.ok()) {
    return FinishUnary(front_.log, position, context, valid, "");
  }
  const int page_size = request->page_size() == 0
                            ? kInstancesPageDefault
                            : std::min(request->page_size(), kInstancesPageMax);
  for (v1::Instance& instance : front_.instances.List()) {
    if (instance.id() <= request->page_token() ||
        !EmptyOrHas(request->instances(), instance.id()) ||
        !EmptyOrHas(request->states(), instance.state())) {
      continue;
    }
    if (response->instances_size() == page_size) {
      response->set_next_page_token(response->instances(page_size - 1).id());
      break;
    }
    *response->add_instances() = std::move(instance);
  }
  return FinishUnary(front_.log, position, context, absl::OkStatus(), "");
}

grpc::ServerWriteReactor<v1::WatchInstancesResponse>* InstanceService::WatchInstances(
    CallbackServerContext* context, const v1::WatchInstancesRequest* request) {
  return new InstanceStream(front_, context, *request);
}

ServerUnaryReactor* InstanceService::GetCapabilities(CallbackServerContext* context,
                                                     const v1::GetCapabilitiesRequest* request,
                                                     v1::GetCapabilitiesResponse* response) {
  const uint64_t position = front_.log.shown();
  absl::Status status = backend::Validate(*request);
  const auto backend = front_.router.Find(request->instance());
  if (status.ok() && backend == nullptr) status = dispatch::UnknownInstance(request->instance());
  const auto capabilities = status.ok() ? backend->capabilities() : nullptr;
  if (status.ok() && capabilities == nullptr) {
    const auto known = front_.instances.Get(request->instance());
    const std::string why = known.ok() && !known->error().empty() ? ": " + known->error() : "";
    const bool is_unusable = known.ok() && known->state() == v1::INSTANCE_STATE_FAILED;
    status = Error(is_unusable ? Reason::kInstanceUnusable : Reason::kInstanceUnreachable,
                   absl::StrCat("Instance '", request->instance(),
                                "' has not been reached yet, so what it can do is not known", why),
                   {{"instance", request->instance()}});
  }
  if (status.ok()) {
    dispatch::FillCapabilities(*capabilities, front_.version, response);
    response->mutable_limits()->set_request_bytes(kRequestBytesMax);
    response->mutable_limits()->set_streams(kStreamsMax);
    response->set_log_id(front_.log.id());
    response->mutable_state_folder()->set_present(front_.log.is_kept());
    response->mutable_state_folder()->set_error(std::string(front_.log.saving().message()));
  }
  return FinishUnary(front_.log, position, context, status, request->instance());
}

}  // namespace tidemark::rpc
