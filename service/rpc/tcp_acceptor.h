// The TCP addresses that the server listens on. It accepts on them itself, so that no host takes
// all descriptors, and hands each connection on. Made and destroyed by one thread that may block.
#ifndef SERVICE_RPC_TCP_ACCEPTOR_H_
#define SERVICE_RPC_TCP_ACCEPTOR_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "service/rpc/accept_loop.h"
#include "service/rpc/tcp_peers.h"

namespace tidemark::rpc {

// A socket that listens.
class TcpSocket {
 public:
  // Listens at a numeric address, as ResolveTcp gives it; port 0 is any port. One of IPv6 that is
  // every address ("[::]:1") is so for IPv4, too. FAILED_PRECONDITION names the address.
  static absl::StatusOr<std::unique_ptr<TcpSocket>> Bind(const std::string& numeric);
  ~TcpSocket();
  TcpSocket(const TcpSocket&) = delete;
  TcpSocket& operator=(const TcpSocket&) = delete;

  int descriptor() const { return descriptor_; }
  // With the port that was bound.
  const std::string& address() const { return address_; }

 private:
  TcpSocket(int descriptor, std::string address)
      : descriptor_(descriptor), address_(std::move(address)) {}

  const int descriptor_;
  const std::string address_;
};

class TcpAcceptor {
 public:
  struct Hooks {
    // A connection to the socket `listener`. It is the hook's.
    std::function<void(int listener, int descriptor)> admit;
    // What an operator should read.
    std::function<void(const std::string&)> warn;
  };

  // Accepts from now on, on a thread of its own, on which the hooks run. What comes from a host
  // that has `per_peer_max` connections is closed at once. RESOURCE_EXHAUSTED: the process has no
  // descriptor left.
  static absl::StatusOr<std::unique_ptr<TcpAcceptor>> Start(
      std::vector<std::unique_ptr<TcpSocket>> sockets, size_t per_peer_max, Hooks hooks);
  // No hook runs any more; the sockets are gone.
  ~TcpAcceptor();
  TcpAcceptor(const TcpAcceptor&) = delete;
  TcpAcceptor& operator=(const TcpAcceptor&) = delete;

 private:
  TcpAcceptor(std::vector<std::unique_ptr<TcpSocket>> sockets, size_t per_peer_max, Hooks hooks);
  absl::Status Take(int listener, int descriptor);

  const std::vector<std::unique_ptr<TcpSocket>> sockets_;
  const Hooks hooks_;
  // Of the loop's thread.
  TcpPeers peers_;
  // Ends before all of these go.
  std::unique_ptr<AcceptLoop> loop_;
};

}  // namespace tidemark::rpc

#endif  // SERVICE_RPC_TCP_ACCEPTOR_H_
