#include "service/rpc/forward.h"

#include <utility>

#include "engine/backend/command.h"
#include "service/rpc/unary_call.h"

namespace tidemark::rpc {

using grpc::CallbackServerContext;
using grpc::ServerUnaryReactor;

ServerUnaryReactor* Forward(const Front& front, CallbackServerContext* context,
                            const google::protobuf::Message& request,
                            google::protobuf::Message* response) {
  auto* const call = new UnaryCall(front, context, request, response);
  if (!call->is_admitted()) return call;
  const backend::Command& command =
      *backend::CommandIndex::Get().ByRequest(request.GetDescriptor());
  front.dispatcher.Call(command, request, response,
                        [&command, &request, call](absl::Status status, uint64_t position) {
                          call->Answer(std::move(status), position,
                                       dispatch::InstanceOf(command, request));
                        });
  return call;
}

}  // namespace tidemark::rpc
