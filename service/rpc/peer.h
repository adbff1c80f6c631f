// Who is at the other end of a call.
#ifndef SERVICE_RPC_PEER_H_
#define SERVICE_RPC_PEER_H_

#include <string>

#include "grpcpp/server_context.h"

namespace tidemark::rpc {

// What the calls of one client have in common, for shares: the address without its port, or "unix".
// Any thread, as long as the call is under way.
std::string PeerKey(const grpc::CallbackServerContext& context);

}  // namespace tidemark::rpc

#endif  // SERVICE_RPC_PEER_H_
