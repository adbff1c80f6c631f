#include "service/rpc/peer.h"

#include "absl/strings/match.h"

namespace tidemark::rpc {

std::string PeerKey(const grpc::CallbackServerContext& context) {
  const std::string peer = context.peer();
  if (absl::StartsWith(peer, "unix")) return "unix";
  return peer.substr(0, peer.rfind(':'));
}

}  // namespace tidemark::rpc
