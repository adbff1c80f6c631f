// The listening gRPC server: addresses, who may connect, limits, reflection and health.
#ifndef SERVICE_RPC_SERVER_H_
#define SERVICE_RPC_SERVER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "service/rpc/built_in_streams.h"
#include "service/rpc/front.h"
#include "service/rpc/limits.h"
#include "service/rpc/listen_address.h"
#include "service/rpc/peer.h"
#include "service/rpc/tcp_acceptor.h"
#include "service/rpc/tls.h"
#include "service/rpc/tokens.h"
#include "service/rpc/unix_acceptor.h"

namespace tidemark::rpc {

// The name under which the health service says whether the state folder can be written. Under the
// empty name it says that the service serves, which it does even if not.
inline constexpr char kStateHealth[] = "tidemark.state";

struct ServerOptions {
  std::vector<ListenAddress> listen;
  // Files in PEM. With a certificate TCP addresses speak TLS; with `tls_client_ca` clients must
  // show a certificate that it signed. Unix sockets are guarded by their mode, and never speak TLS.
  std::string tls_cert;
  std::string tls_key;
  std::string tls_client_ca;
  // When connections are closed: see limits.h.
  absl::Duration connection_idle_max = kConnectionIdleMax;
  absl::Duration connection_age_max = kConnectionAgeMax;
  absl::Duration connection_age_grace = kConnectionAgeGrace;
  // TCP connections that one host may have; see tcp_peers.h for what a host is.
  size_t tcp_connections_per_peer_max = TcpPeers::PerPeerOfProcess();
  // What gRPC may hold for connections and requests that are still coming in. Beyond it connections
  // without a call and then calls are given up.
  uint64_t transport_bytes_max = kTransportBytesDefault;
  // The file of tokens (tokens.h), by which clients of TCP addresses may also say who they are.
  // Needs a certificate.
  std::string token_file;
  // TCP addresses need not ask who connects.
  bool insecure = false;
  // Who may connect to unix sockets.
  SocketAccess sockets;
  // What an operator should read. Any thread.
  std::function<void(const std::string&)> warn = [](const std::string&) {};
};

// What clients of TCP addresses are shown and asked for, as it was read from files; null where
// there is none.
struct Guard {
  std::shared_ptr<Tls> tls;
  std::shared_ptr<Tokens> tokens;
};

// Reads the files that the options name, which takes for ever if their disk hangs. Refused:
// certificates or tokens that cannot be read or used.
absl::StatusOr<Guard> ReadGuard(const ServerOptions& options);

// Made and ended by one thread that may block.
class Server {
 public:
  // Listens and serves. `front` must outlive the server, `guard` is what ReadGuard gave. Refused:
  // an address in use, a TCP address whose clients nobody asks who they are (CheckGuarded).
  static absl::StatusOr<std::unique_ptr<Server>> Start(const Front& front,
                                                       const ServerOptions& options, Guard guard);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // One for each address, as clients write it: "unix:/run/tidemark.sock", "127.0.0.1:50051".
  const std::vector<std::string>& addresses() const { return addresses_; }

  // The certificates that it shows; null without TLS. They may be read anew while it serves.
  const std::shared_ptr<Tls>& tls() const { return guard_.tls; }
  // The same of tokens.
  const std::shared_ptr<Tokens>& tokens() const { return guard_.tokens; }

  // Takes no more RPCs, waits up to kShutdownGrace for those under way, then cancels them; removes
  // the sockets. True once all are done. False if some are not even kCancelGrace later (a client
  // that takes nothing from its socket keeps what was sent to it): this and `front` must then stay
  // for ever.
  bool Stop();

 private:
  struct Health;
  Server(const Front& front, Guard guard);
  // OK unless somebody could reach a TCP address without being asked.
  absl::Status CheckAddresses(const ServerOptions& options) const;
  // Lets clients of unix sockets in, and those of TCP addresses.
  absl::Status Open(std::vector<std::unique_ptr<UnixSocket>> sockets, const ServerOptions& options);
  absl::Status Open(std::vector<std::unique_ptr<TcpSocket>> sockets, const ServerOptions& options);
  // Says under kStateHealth whether the log is saved, from now on.
  void TellHealth();

  backend::EventLog& log_;
  const Guard guard_;
  const std::shared_ptr<grpc::ServerCredentials> credentials_;
  PeerSources peers_;
  BuiltInStreams built_in_;
  std::shared_ptr<Health> health_;
  std::vector<std::unique_ptr<grpc::Service>> services_;
  std::vector<std::string> addresses_;
  std::unique_ptr<grpc::Server> server_;
  // Where `server_` takes TCP connections from. Null without TCP addresses.
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> entrance_;
  // They give connections to `server_`. Null without unix sockets, and without TCP addresses.
  std::unique_ptr<UnixAcceptor> unix_acceptor_;
  std::unique_ptr<TcpAcceptor> tcp_acceptor_;
};

}  // namespace tidemark::rpc

#endif  // SERVICE_RPC_SERVER_H_
