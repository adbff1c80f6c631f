// The unix sockets that the server listens on. It accepts on them itself, to ask the kernel who
// connected, and hands each connection on. Made and destroyed by one thread that may block.
#ifndef SERVICE_RPC_UNIX_ACCEPTOR_H_
#define SERVICE_RPC_UNIX_ACCEPTOR_H_

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "service/rpc/accept_loop.h"
#include "service/rpc/listen_address.h"
#include "service/rpc/unix_peers.h"

namespace tidemark::rpc {

// A socket that listens, and its file.
class UnixSocket {
 public:
  // Listens, where nobody can connect yet. FAILED_PRECONDITION: the path is in use; other errors
  // name it too.
  static absl::StatusOr<std::unique_ptr<UnixSocket>> Bind(const std::string& path);
  // Stops listening; removes the file if it is still this one's.
  ~UnixSocket();
  UnixSocket(const UnixSocket&) = delete;
  UnixSocket& operator=(const UnixSocket&) = delete;

  // From now on it is at its path, for those who may connect.
  absl::Status Publish(const SocketAccess& access);

  int descriptor() const { return descriptor_; }

 private:
  UnixSocket(std::string path, int descriptor, SocketNest nest);

  const std::string path_;
  const int descriptor_;
  absl::optional<SocketNest> nest_;
  // The file's identity, once it is published.
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

class UnixAcceptor {
 public:
  struct Hooks {
    // A connection, by its number among `peers`. It is the hook's.
    std::function<void(int number)> admit;
    // What an operator should read.
    std::function<void(const std::string&)> warn;
  };

  // Accepts from now on, on a thread of its own, on which the hooks run. `peers` must outlive it.
  // RESOURCE_EXHAUSTED: the process has no descriptor left.
  static absl::StatusOr<std::unique_ptr<UnixAcceptor>> Start(
      std::vector<std::unique_ptr<UnixSocket>> sockets, UnixPeers& peers, Hooks hooks);
  // No hook runs any more; the sockets are gone.
  ~UnixAcceptor();
  UnixAcceptor(const UnixAcceptor&) = delete;
  UnixAcceptor& operator=(const UnixAcceptor&) = delete;

 private:
  UnixAcceptor(std::vector<std::unique_ptr<UnixSocket>> sockets, UnixPeers& peers, Hooks hooks);
  absl::Status Take(int descriptor);

  const std::vector<std::unique_ptr<UnixSocket>> sockets_;
  UnixPeers& peers_;
  const Hooks hooks_;
  // Ends before the sockets go.
  std::unique_ptr<AcceptLoop> loop_;
};

}  // namespace tidemark::rpc

#endif  // SERVICE_RPC_UNIX_ACCEPTOR_H_
