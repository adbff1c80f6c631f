#include "service/rpc/forward.h"

#include "engine/backend/command.h"
#include "service/rpc/error_status.h"

namespace tidemark::rpc {

using grpc::CallbackServerContext;
using grpc::ServerUnaryReactor;

ServerUnaryReactor* Forward(const Front& front, CallbackServerContext* context,
                            const google::protobuf::Message& request,
                            google::protobuf::Message* response) {
  const backend::Command& command =
      *backend::CommandIndex::Get().ByRequest(request.GetDescriptor());
  ServerUnaryReactor* const reactor = context->DefaultReactor();
  front.dispatcher.Call(
      command, request, response,
      [&front, &command, &request, context, reactor](absl::Status status, uint64_t position) {
        AddSequence(front.log, position, context);
        reactor->Finish(ToGrpcStatus(status, dispatch::InstanceOf(command, request)));
      });
  return reactor;
}

}  // namespace tidemark::rpc
