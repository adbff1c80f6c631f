// The way of every command of the mirror through the front: in, to the dispatcher, and back out.
#ifndef SERVICE_RPC_FORWARD_H_
#define SERVICE_RPC_FORWARD_H_

#include "google/protobuf/message.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/server_callback.h"
#include "service/rpc/front.h"

namespace tidemark::rpc {

// Sends a command on its way; the reply goes out when the engine has answered. Any thread; never
// waits. `request` and `response` stay until then, as gRPC keeps them.
grpc::ServerUnaryReactor* Forward(const Front& front, grpc::CallbackServerContext* context,
                                  const google::protobuf::Message& request,
                                  google::protobuf::Message* response);

}  // namespace tidemark::rpc

// A method of the mirror, in a service with a member `front_` where `v1` is the package; says only
// that it exists.
#define TIDEMARK_FORWARD(method)                                              \
  grpc::ServerUnaryReactor* method(grpc::CallbackServerContext* context,      \
                                   const v1::method##Request* request,        \
                                   v1::method##Response* response) override { \
    return Forward(front_, context, *request, response);                      \
  }

#endif  // SERVICE_RPC_FORWARD_H_
