// Who called. Any thread.
#ifndef SERVICE_RPC_PEER_H_
#define SERVICE_RPC_PEER_H_

#include <sys/types.h>

#include <memory>
#include <string>

#include "absl/types/optional.h"
#include "grpcpp/server_context.h"
#include "service/rpc/tokens.h"
#include "service/rpc/unix_peers.h"

namespace tidemark::rpc {

struct Peer {
  enum class Kind {
    kUnix,         // A user of this machine, by a unix socket.
    kCertificate,  // A client certificate, by TLS.
    kToken,        // A token, by TLS.
    kAddress,      // Nobody has asked: only where the service is run with --insecure.
    kUnknown,
  };
  Kind kind = Kind::kUnknown;
  // Of kUnix, as the kernel told when the connection was made.
  uid_t uid = 0;
  gid_t gid = 0;
  // The certificate's common name, or if it has none its first alternative name; or the token's
  // name. Of a token that was taken from the file meanwhile it is empty.
  std::string name;
  // Where the connection comes from, without the port; empty for unix sockets.
  std::string address;
};

// What servers know about their connections beside what gRPC tells.
struct PeerSources {
  UnixPeers unix_peers;
  // Null: there are none.
  std::shared_ptr<const Tokens> tokens;
};

// Has each call of a server know `sources`, which must outlive the server.
std::unique_ptr<grpc::ContextAllocator> PeerContexts(const PeerSources& sources);

// Of a call of a server with PeerContexts; of others users and tokens are not known.
Peer PeerOf(const grpc::CallbackServerContext& context);
// Of a call that gRPC serves by itself.
Peer PeerOf(const grpc::ServerContextBase& context, const PeerSources& sources);

// Short, and the same for all calls of one who called: "user:1000", "certificate:NAME",
// "token:NAME", "address:10.0.0.1". What is counted for each peer is counted under it.
std::string PeerKey(const grpc::CallbackServerContext& context);
std::string KeyOf(const Peer& peer);

}  // namespace tidemark::rpc

#endif  // SERVICE_RPC_PEER_H_
