// How many TCP connections each host has: one that opens them by the thousand is to leave
// descriptors to the others.
//
// Nobody tells when a connection ends: gRPC closes its descriptor, and that is all. So what is
// remembered is which socket had which number, and whether the number is still that socket's is
// looked up when it matters: when its host has as many as it may and wants another. A number that
// is given out again is no longer its former host's, so what is remembered stays as small as the
// table of descriptors. One thread at a time.
#ifndef SERVICE_RPC_TCP_PEERS_H_
#define SERVICE_RPC_TCP_PEERS_H_

#include <sys/types.h>

#include <cstddef>
#include <map>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace tidemark::rpc {

class TcpPeers {
 public:
  // What the limits of this process allow each host: see limits.h.
  static size_t PerPeerOfProcess();

  explicit TcpPeers(size_t per_peer_max) : per_peer_max_(per_peer_max) {}

  // Counts a connection of `peer` for as long as its descriptor is open. RESOURCE_EXHAUSTED
  // (kLimitReached): the host has as many as it may.
  absl::Status Add(int descriptor, const std::string& peer);

  // Hosts with connections that may still be open.
  size_t peer_count() const { return numbers_.size(); }

 private:
  struct Socket {
    dev_t device;
    ino_t inode;
    std::string peer;
  };

  void Forget(int number);
  // Forgets those connections of the host that have ended.
  void Prune(const std::string& peer);

  const size_t per_peer_max_;
  // By their numbers.
  std::map<int, Socket> sockets_;
  // The numbers of each host; none is empty.
  std::map<std::string, std::set<int>> numbers_;
};

// The host that a connected TCP socket comes from: an IPv4 address, also if it was mapped into
// IPv6, or the first half of an IPv6 address, since a host has all the rest to choose from:
// "10.0.0.1", "2001:db8::/64". FAILED_PRECONDITION (kIoError): it is not connected any more.
absl::StatusOr<std::string> TcpPeerOf(int descriptor);

}  // namespace tidemark::rpc

#endif  // SERVICE_RPC_TCP_PEERS_H_
