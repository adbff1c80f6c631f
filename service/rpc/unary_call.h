// A call that has one reply, from its arrival until the client has the reply or has gone. So long
// it has its place in the client's share of what may be under way.
#ifndef SERVICE_RPC_UNARY_CALL_H_
#define SERVICE_RPC_UNARY_CALL_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/message.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/server_callback.h"
#include "service/rpc/admission.h"
#include "service/rpc/front.h"

namespace tidemark::rpc {

class UnaryCall final : public grpc::ServerUnaryReactor {
 public:
  // Owns itself. All live as long as the call, as gRPC keeps them. A call that there is no room for
  // has been answered so: nothing may be done with it but to hand it to gRPC.
  UnaryCall(const Front& front, grpc::CallbackServerContext* context,
            const google::protobuf::Message& request, google::protobuf::Message* response);
  UnaryCall(const UnaryCall&) = delete;
  UnaryCall& operator=(const UnaryCall&) = delete;

  bool is_admitted() const { return is_admitted_; }

  // Once, from any thread: the reply with what was true at `position` of the log, or the error, to
  // which `instance` is added unless empty. A reply that is too large for its memory to be had
  // becomes RESOURCE_EXHAUSTED; those of commands that change something are never so large.
  void Answer(absl::Status status, uint64_t position, absl::string_view instance);

 private:
  void OnDone() override { delete this; }

  const Front& front_;
  grpc::CallbackServerContext* const context_;
  google::protobuf::Message* const response_;
  Admission::Ticket ticket_;
  bool is_admitted_ = false;
};

// A call that the service answers by itself, at once: `obey()` fills the response.
template <typename Request, typename Response, typename Obey>
grpc::ServerUnaryReactor* AnswerNow(const Front& front, grpc::CallbackServerContext* context,
                                    const Request& request, Response* response,
                                    absl::string_view instance, Obey obey) {
  auto* const call = new UnaryCall(front, context, request, response);
  if (!call->is_admitted()) return call;
  const uint64_t position = front.log.shown();
  call->Answer(obey(), position, instance);
  return call;
}

}  // namespace tidemark::rpc

#endif  // SERVICE_RPC_UNARY_CALL_H_
