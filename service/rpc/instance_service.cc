#include "service/rpc/instance_service.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/backend/filter.h"
#include "engine/backend/validate.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/base/utf8.h"
#include "service/dispatch/capabilities_response.h"
#include "service/rpc/instance_stream.h"
#include "service/rpc/limits.h"
#include "service/rpc/unary_call.h"

namespace tidemark::rpc {

namespace v1 = ::tidemark::block::v1;
using grpc::CallbackServerContext;
using grpc::ServerUnaryReactor;

namespace {

// Once readers of the log are shown all that has happened by now.
void AnswerWhenShown(backend::EventLog& log, UnaryCall* call, const absl::Status& status,
                     const std::string& instance) {
  const uint64_t position = log.position();
  log.RunWhenShown(
      position, [position, call, status, instance] { call->Answer(status, position, instance); });
}

}  // namespace

ServerUnaryReactor* InstanceService::CreateInstance(CallbackServerContext* context,
                                                    const v1::CreateInstanceRequest* request,
                                                    v1::CreateInstanceResponse* response) {
  auto* const call = new UnaryCall(front_, context, *request, response);
  if (!call->is_admitted()) return call;
  const uint64_t position = front_.log.shown();
  if (absl::Status valid = backend::Validate(*request); !valid.ok()) {
    call->Answer(valid, position, request->id());
    return call;
  }
  response->set_event_sequence(front_.log.position());
  front_.instances.Create(*request,
                          [this, request, response, call](absl::StatusOr<v1::Instance> instance) {
                            if (instance.ok()) *response->mutable_instance() = *std::move(instance);
                            AnswerWhenShown(front_.log, call, instance.status(), request->id());
                          });
  return call;
}

ServerUnaryReactor* InstanceService::DeleteInstance(CallbackServerContext* context,
                                                    const v1::DeleteInstanceRequest* request,
                                                    v1::DeleteInstanceResponse* response) {
  auto* const call = new UnaryCall(front_, context, *request, response);
  if (!call->is_admitted()) return call;
  const uint64_t position = front_.log.shown();
  if (absl::Status valid = backend::Validate(*request); !valid.ok()) {
    call->Answer(valid, position, request->id());
    return call;
  }
  response->set_event_sequence(front_.log.position());
  front_.instances.Delete(request->id(), [this, request, call](const absl::Status& status) {
    AnswerWhenShown(front_.log, call, status, request->id());
  });
  return call;
}

ServerUnaryReactor* InstanceService::GetInstance(CallbackServerContext* context,
                                                 const v1::GetInstanceRequest* request,
                                                 v1::GetInstanceResponse* response) {
  return AnswerNow(front_, context, *request, response, request->id(), [&]() {
    absl::Status status = backend::Validate(*request);
    if (!status.ok()) return status;
    auto instance = front_.instances.Get(request->id());
    if (instance.ok()) *response->mutable_instance() = *std::move(instance);
    return instance.status();
  });
}

ServerUnaryReactor* InstanceService::ListInstances(CallbackServerContext* context,
                                                   const v1::ListInstancesRequest* request,
                                                   v1::ListInstancesResponse* response) {
  return AnswerNow(front_, context, *request, response, "", [&]() {
    absl::Status status = backend::Validate(*request);
    if (status.ok()) FillPage(*request, response);
    return status;
  });
}

// The token of a page is the name of the last instance before it.
void InstanceService::FillPage(const v1::ListInstancesRequest& request,
                               v1::ListInstancesResponse* response) const {
  const int page_size = request.page_size() == 0 ? kInstancesPageDefault
                                                 : std::min(request.page_size(), kInstancesPageMax);
  const backend::Filter<std::string> ids(request.instances());
  const backend::Filter<int> states(request.states());
  for (v1::Instance& instance : front_.instances.List()) {
    if (instance.id() <= request.page_token() || !ids.Passes(instance.id()) ||
        !states.Passes(instance.state())) {
      continue;
    }
    if (response->instances_size() == page_size) {
      response->set_next_page_token(response->instances(page_size - 1).id());
      break;
    }
    *response->add_instances() = std::move(instance);
  }
}

grpc::ServerWriteReactor<v1::WatchInstancesResponse>* InstanceService::WatchInstances(
    CallbackServerContext* context, const v1::WatchInstancesRequest* request) {
  return new InstanceStream(front_, context, *request);
}

ServerUnaryReactor* InstanceService::GetCapabilities(CallbackServerContext* context,
                                                     const v1::GetCapabilitiesRequest* request,
                                                     v1::GetCapabilitiesResponse* response) {
  return AnswerNow(front_, context, *request, response, request->instance(),
                   [&]() { return FillCapabilities(*request, response); });
}

absl::Status InstanceService::FillCapabilities(const v1::GetCapabilitiesRequest& request,
                                               v1::GetCapabilitiesResponse* response) const {
  RETURN_IF_ERROR(backend::Validate(request));
  const auto backend = front_.router.Find(request.instance());
  if (backend == nullptr) return dispatch::UnknownInstance(request.instance());
  const auto capabilities = backend->capabilities();
  if (capabilities == nullptr) {
    const auto known = front_.instances.Get(request.instance());
    const std::string why = known.ok() && !known->error().empty() ? ": " + known->error() : "";
    const bool is_unusable = known.ok() && known->state() == v1::INSTANCE_STATE_FAILED;
    return Error(is_unusable ? Reason::kInstanceUnusable : Reason::kInstanceUnreachable,
                 absl::StrCat("Instance '", request.instance(),
                              "' has not been reached yet, so what it can do is not known", why),
                 {{"instance", request.instance()}});
  }
  dispatch::FillCapabilities(*capabilities, front_.version, response);
  response->mutable_limits()->set_request_bytes(kRequestBytesMax);
  response->mutable_limits()->set_streams(front_.streams.streams_max());
  response->set_log_id(front_.log.id());
  response->mutable_state_folder()->set_present(front_.log.is_kept());
  response->mutable_state_folder()->set_error(ToUtf8(front_.log.saving().message()));
  return absl::OkStatus();
}

}  // namespace tidemark::rpc
