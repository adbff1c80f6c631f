// The listening gRPC server: addresses, TLS, limits, reflection and health.
#ifndef SERVICE_RPC_SERVER_H_
#define SERVICE_RPC_SERVER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "grpcpp/server.h"
#include "service/rpc/front.h"
#include "service/rpc/limits.h"
#include "service/rpc/listen_address.h"
#include "service/rpc/tls.h"

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
  // What gRPC may hold for connections and requests that are still coming in. Beyond it connections
  // without a call and then calls are given up.
  uint64_t transport_bytes_max = kTransportBytesDefault;
};

// Made and ended by one thread that may block.
class Server {
 public:
  // Listens and serves. `front` must outlive the server. Refused: an address in use, a TCP address
  // beyond this machine without TLS, certificates that cannot be read or used.
  static absl::StatusOr<std::unique_ptr<Server>> Start(const Front& front,
                                                       const ServerOptions& options);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // One for each address, as clients write it: "unix:/run/tidemark.sock", "127.0.0.1:50051".
  const std::vector<std::string>& addresses() const { return addresses_; }

  // The certificates that it shows; null without TLS. They may be read anew while it serves.
  const std::shared_ptr<Tls>& tls() const { return tls_; }

  // Takes no more RPCs, waits up to kShutdownGrace for those under way, then cancels them; removes
  // the sockets. True once all are done. False if some are not even kCancelGrace later (a client
  // that takes nothing from its socket keeps what was sent to it): `front` must then stay for ever.
  bool Stop();

 private:
  struct Health;
  explicit Server(const Front& front);
  // Says under kStateHealth whether the log is saved, from now on.
  void TellHealth();

  backend::EventLog& log_;
  std::shared_ptr<Tls> tls_;
  std::shared_ptr<grpc::ServerCredentials> credentials_;
  std::shared_ptr<Health> health_;
  std::vector<std::unique_ptr<grpc::Service>> services_;
  std::vector<std::string> addresses_;
  std::vector<std::string> socket_paths_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace tidemark::rpc

#endif  // SERVICE_RPC_SERVER_H_
