// Has the streams that gRPC serves by itself, reflection and the watches of health, count for their
// clients, as all others do: by an interceptor, since gRPC asks nobody before it serves them.
#ifndef SERVICE_RPC_BUILT_IN_STREAMS_H_
#define SERVICE_RPC_BUILT_IN_STREAMS_H_

#include <memory>

#include "grpcpp/support/server_interceptor.h"
#include "service/rpc/admission.h"
#include "service/rpc/limits.h"
#include "service/rpc/peer.h"
#include "service/rpc/stream_set.h"

namespace tidemark::rpc {

// Outlives the server whose streams it counts. Any thread.
class BuiltInStreams {
 public:
  // Watches of health are streams like those of `streams`. Those of reflection have a thread each,
  // so there are fewer. Both must outlive this.
  BuiltInStreams(StreamSet& streams, const PeerSources& sources)
      : streams_(streams), sources_(sources) {}
  BuiltInStreams(const BuiltInStreams&) = delete;
  BuiltInStreams& operator=(const BuiltInStreams&) = delete;

  // To be given to the server. A stream for which its client has no room left ends with
  // RESOURCE_EXHAUSTED; other calls notice nothing.
  std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> Interceptors();

 private:
  class Factory;
  class Counted;

  StreamSet& streams_;
  const PeerSources& sources_;
  Admission reflection_{"reflection stream",
                        {kReflectionStreamsMax, kReflectionStreamsMax * 2 * kCallBytes}};
};

}  // namespace tidemark::rpc

#endif  // SERVICE_RPC_BUILT_IN_STREAMS_H_
