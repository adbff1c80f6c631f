#include "service/rpc/unary_call.h"

#include <memory>
#include <utility>

#include "service/rpc/error_status.h"
#include "service/rpc/limits.h"
#include "service/rpc/peer.h"

namespace tidemark::rpc {

UnaryCall::UnaryCall(const Front& front, grpc::CallbackServerContext* context,
                     const google::protobuf::Message& request, google::protobuf::Message* response)
    : front_(front), context_(context), response_(response) {
  auto ticket = front.calls.Enter(PeerKey(*context), kCallBytes + request.SpaceUsedLong());
  if (ticket.ok()) {
    ticket_ = *std::move(ticket);
    is_admitted_ = true;
  } else {
    Answer(ticket.status(), front.log.shown(), "");
  }
}

void UnaryCall::Answer(absl::Status status, uint64_t position, absl::string_view instance) {
  if (status.ok() && response_->ByteSizeLong() > kCallBytes) {
    // As a message, and as bytes.
    status = ticket_.Grow(response_->SpaceUsedLong() + response_->ByteSizeLong());
  }
  if (!status.ok()) {
    // The call may stay for long if its client does not take the answer.
    const std::unique_ptr<google::protobuf::Message> nothing(response_->New());
    response_->GetReflection()->Swap(response_, nothing.get());
  }
  AddTrailers(front_.log, position, context_);
  Finish(ToGrpcStatus(status, instance));
}

}  // namespace tidemark::rpc
