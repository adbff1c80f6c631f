// Who is behind each connection to a unix socket. The kernel knows (SO_PEERCRED), but a call of
// gRPC tells only the number of its connection's descriptor, and such numbers are used again: the
// call of one client may be looked at when its number has gone to another. So the numbers of a user
// go to nobody else before kUnixNumbersRest after the user's last connection. Any thread.
#ifndef SERVICE_RPC_UNIX_PEERS_H_
#define SERVICE_RPC_UNIX_PEERS_H_

#include <sys/types.h>

#include <map>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "engine/base/clock.h"
#include "engine/base/mutex.h"
#include "service/rpc/limits.h"

namespace tidemark::rpc {

struct UnixPeer {
  uid_t uid = 0;
  gid_t gid = 0;
};

class UnixPeers {
 public:
  // Numbers from `first` on, `count` of them, given to users in blocks.
  struct Numbers {
    int first = 0;
    int count = 0;
  };
  // As many as the limits of this process and kUnixNumbersMax allow, above those that the process
  // uses for itself.
  static Numbers NumbersOfProcess();

  explicit UnixPeers(Numbers numbers = NumbersOfProcess(),
                     int connections_per_user_max = kUnixConnectionsPerUserMax,
                     Clock& clock = SystemClock());

  // The same connection under a number of its user's; takes `descriptor`, also where it fails.
  // RESOURCE_EXHAUSTED (kLimitReached): the user has too many, or nothing is left.
  absl::StatusOr<int> Place(int descriptor, const UnixPeer& peer);

  // Who had this number last. Absent: nobody, or long ago.
  absl::optional<UnixPeer> Find(int number) const;

 private:
  // The number if it lies in a block that is the user's or can become it; else -1.
  int TryFrom(int from, int descriptor, const UnixPeer& peer, int* block)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int TakeNumber(int descriptor, const UnixPeer& peer) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes back, from time to time, what users have who are not connected any more.
  void TakeBack() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool IsConnected(const std::vector<int>& blocks) const;

  struct User {
    std::vector<int> blocks;
    // When this user was first seen to have no connection; infinite while there is one.
    absl::Duration gone_since = absl::InfiniteDuration();
  };

  const Numbers numbers_;
  const size_t blocks_per_user_max_;
  Clock& clock_;

  mutable Mutex mutex_;
  absl::Duration looked_at_ ABSL_GUARDED_BY(mutex_);
  // Of each block; absent: nobody's yet.
  std::vector<absl::optional<uid_t>> owners_ ABSL_GUARDED_BY(mutex_);
  std::map<uid_t, User> users_ ABSL_GUARDED_BY(mutex_);
  // Of each number.
  std::vector<gid_t> groups_ ABSL_GUARDED_BY(mutex_);
};

// Who connected, of a socket that was accepted.
absl::StatusOr<UnixPeer> UnixPeerOf(int descriptor);

}  // namespace tidemark::rpc

#endif  // SERVICE_RPC_UNIX_PEERS_H_
