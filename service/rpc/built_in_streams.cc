#include "service/rpc/built_in_streams.h"

#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "grpc/grpc.h"

namespace tidemark::rpc {
namespace {

using grpc::experimental::InterceptionHookPoints;
using grpc::experimental::InterceptorBatchMethods;
using grpc::experimental::ServerRpcInfo;

}  // namespace

// Lives as long as its call.
class BuiltInStreams::Counted final : public grpc::experimental::Interceptor {
 public:
  Counted(BuiltInStreams& all, ServerRpcInfo* call, bool is_reflection)
      : all_(all), call_(*call->server_context()), is_reflection_(is_reflection) {}

  // From here on it is known who calls.
  void Intercept(InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::POST_RECV_INITIAL_METADATA)) {
      const std::string peer = KeyOf(PeerOf(call_, all_.sources_));
      auto ticket =
          is_reflection_ ? all_.reflection_.Enter(peer, kCallBytes) : all_.streams_.Enter(peer);
      if (ticket.ok()) {
        ticket_ = *std::move(ticket);
      } else {
        // What serves it finds it ended.
        grpc_call_cancel_with_status(call_.c_call(), GRPC_STATUS_RESOURCE_EXHAUSTED,
                                     std::string(ticket.status().message()).c_str(), nullptr);
      }
    }
    methods->Proceed();
  }

 private:
  BuiltInStreams& all_;
  grpc::ServerContextBase& call_;
  const bool is_reflection_;
  Admission::Ticket ticket_;
};

class BuiltInStreams::Factory final : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit Factory(BuiltInStreams& all) : all_(all) {}

  // Null: not one of them.
  grpc::experimental::Interceptor* CreateServerInterceptor(ServerRpcInfo* call) override {
    const absl::string_view method(call->method() == nullptr ? "" : call->method());
    if (method == "/grpc.health.v1.Health/Watch") return new Counted(all_, call, false);
    if (absl::StartsWith(method, "/grpc.reflection.")) return new Counted(all_, call, true);
    return nullptr;
  }

 private:
  BuiltInStreams& all_;
};

std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>
BuiltInStreams::Interceptors() {
  return std::make_unique<Factory>(*this);
}

}  // namespace tidemark::rpc
