// TLS of the server: certificate, key and the authority of clients, from files that can be read
// anew while it serves. Any thread.
#ifndef SERVICE_RPC_TLS_H_
#define SERVICE_RPC_TLS_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/base/mutex.h"
#include "grpcpp/security/server_credentials.h"
#include "service/rpc/tokens.h"

namespace tidemark::rpc {

class Tls final : public std::enable_shared_from_this<Tls> {
 public:
  // Files in PEM. With `client_ca` clients must show a certificate that it signed, or a token where
  // tokens are taken.
  struct Files {
    std::string cert;
    std::string key;
    std::string client_ca;
  };
  struct Texts {
    std::string cert;
    std::string key;
    std::string client_ca;
  };

  // Reads the files. INVALID_ARGUMENT names the one that cannot be used.
  static absl::StatusOr<std::shared_ptr<Tls>> Create(Files files);

  // Reads the files again: connections that are made from now on use them. If they cannot be used,
  // nothing changes, and the error is that of Create.
  absl::Status Reload();

  // What a server listens with; they keep this alive. Unless `tokens` is null, clients that show no
  // certificate need a token for each call.
  std::shared_ptr<grpc::ServerCredentials> Credentials(std::shared_ptr<const Tokens> tokens);

  bool asks_clients() const { return !files_.client_ca.empty(); }

  // What was read, if that was later than `generation`, which is then moved on; false if not.
  bool TakeNewer(uint64_t* generation, Texts* texts) const;

 private:
  explicit Tls(Files files) : files_(std::move(files)) {}

  const Files files_;

  mutable Mutex mutex_;
  Texts texts_ ABSL_GUARDED_BY(mutex_);
  uint64_t generation_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace tidemark::rpc

#endif  // SERVICE_RPC_TLS_H_
