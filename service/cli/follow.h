// A stream that is taken up again when the connection breaks.
#ifndef SERVICE_CLI_FOLLOW_H_
#define SERVICE_CLI_FOLLOW_H_

#include <functional>

#include "absl/time/time.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"
#include "grpcpp/support/status.h"
#include "service/cli/session.h"

namespace tidemark::cli {

struct Follow {
  const google::protobuf::MethodDescriptor* method;
  // Asked anew before each attempt, so that it can say where to go on.
  std::function<const google::protobuf::Message&()> request;
  google::protobuf::Message* response;
  // False ends the stream.
  std::function<bool()> on_response;
  absl::Duration silence_max = absl::InfiniteDuration();
};

// Streams until `on_response` returns false or the stream ends by itself. A first connection that
// fails is an error; one that breaks later is made again and again, with growing pauses, and the
// diagnostics say so.
grpc::Status RunFollow(const Session& session, const Follow& follow);

}  // namespace tidemark::cli

#endif  // SERVICE_CLI_FOLLOW_H_
