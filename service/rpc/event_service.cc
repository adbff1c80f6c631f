// The event stream.

#include <memory>

#include "service/rpc/event_stream.h"
#include "service/rpc/services.h"
#include "tidemark/block/v1/event.grpc.pb.h"

namespace tidemark::rpc {
namespace {

namespace v1 = ::tidemark::block::v1;
using grpc::CallbackServerContext;

class EventService final : public v1::EventService::CallbackService {
 public:
  explicit EventService(const Front& front) : front_(front) {}

  grpc::ServerWriteReactor<v1::WatchEventsResponse>* WatchEvents(
      CallbackServerContext* context, const v1::WatchEventsRequest* request) override {
    return new EventStream(front_, context, *request);
  }

 private:
  const Front& front_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeEventService(const Front& front) {
  return std::make_unique<EventService>(front);
}

}  // namespace tidemark::rpc
