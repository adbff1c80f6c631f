#include "service/rpc/unix_peers.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "engine/base/error.h"

namespace tidemark::rpc {
namespace {

// Numbers that go to a user together: few users have many connections, and most have few.
constexpr int kBlock = 16;
// Below are the descriptors of everything else; at most half of what the process may have.
constexpr int kFirstNumber = 4096;

}  // namespace

UnixPeers::Numbers UnixPeers::NumbersOfProcess() {
  rlimit limit = {};
  constexpr rlim_t kMost = 2 * kFirstNumber + kUnixNumbersMax;
  const bool is_known = getrlimit(RLIMIT_NOFILE, &limit) == 0;
  const int all = static_cast<int>(is_known ? std::min(limit.rlim_cur, kMost) : kMost);
  const int first = std::min(kFirstNumber, all / 2);
  return {first, std::min(kUnixNumbersMax, all - first)};
}

UnixPeers::UnixPeers(Numbers numbers, int connections_per_user_max, Clock& clock)
    : numbers_(numbers),
      blocks_per_user_max_(std::max(connections_per_user_max / kBlock, 1)),
      clock_(clock),
      looked_at_(clock.Elapsed()),
      owners_(numbers.count / kBlock),
      groups_(numbers.count / kBlock * kBlock) {}

bool UnixPeers::IsConnected(const std::vector<int>& blocks) const {
  for (const int block : blocks) {
    const int first = numbers_.first + block * kBlock;
    for (int number = first; number < first + kBlock; ++number) {
      if (fcntl(number, F_GETFD) >= 0) return true;
    }
  }
  return false;
}

// Nobody tells when a connection ends.
void UnixPeers::TakeBack() {
  const absl::Duration now = clock_.Elapsed();
  if (now - looked_at_ < kUnixNumbersRest) return;
  looked_at_ = now;
  for (auto user = users_.begin(); user != users_.end();) {
    User& own = user->second;
    own.gone_since =
        IsConnected(own.blocks) ? absl::InfiniteDuration() : std::min(own.gone_since, now);
    if (now - own.gone_since < kUnixNumbersRest) {
      ++user;
      continue;
    }
    for (const int block : own.blocks) owners_[block].reset();
    user = users_.erase(user);
  }
}

int UnixPeers::TryFrom(int from, int descriptor, const UnixPeer& peer, int* block) {
  const int number = fcntl(descriptor, F_DUPFD_CLOEXEC, from);
  *block = number < 0 ? static_cast<int>(owners_.size()) : (number - numbers_.first) / kBlock;
  if (number < 0) return -1;
  if (*block < static_cast<int>(owners_.size()) && owners_[*block].value_or(peer.uid) == peer.uid) {
    return number;
  }
  close(number);
  return -1;
}

int UnixPeers::TakeNumber(int descriptor, const UnixPeer& peer) {
  int block;
  if (const auto own = users_.find(peer.uid); own != users_.end()) {
    for (const int mine : own->second.blocks) {
      const int number = TryFrom(numbers_.first + mine * kBlock, descriptor, peer, &block);
      if (number < 0) continue;
      if (owners_[block].has_value()) return number;
      close(number);  // A block that would be the user's next one.
    }
    if (own->second.blocks.size() >= blocks_per_user_max_) return -1;
  }
  for (block = 0; block < static_cast<int>(owners_.size()); ++block) {
    if (owners_[block].has_value()) continue;
    const int number = TryFrom(numbers_.first + block * kBlock, descriptor, peer, &block);
    if (number < 0) continue;
    if (!owners_[block].has_value()) users_[peer.uid].blocks.push_back(block);
    owners_[block] = peer.uid;
    return number;
  }
  return -1;
}

absl::StatusOr<int> UnixPeers::Place(int descriptor, const UnixPeer& peer) {
  const auto closer = absl::MakeCleanup([descriptor] { close(descriptor); });
  MutexLock lock(&mutex_);
  TakeBack();
  const int number = TakeNumber(descriptor, peer);
  if (number >= 0) {
    users_[peer.uid].gone_since = absl::InfiniteDuration();
    groups_[number - numbers_.first] = peer.gid;
    return number;
  }
  return Error(Reason::kLimitReached,
               absl::StrCat("a connection of user ", peer.uid,
                            " to a unix socket is not taken: one user may have ",
                            blocks_per_user_max_ * kBlock, ", all together ",
                            owners_.size() * kBlock, ", and what is left is no more this user's"));
}

absl::optional<UnixPeer> UnixPeers::Find(int number) const {
  MutexLock lock(&mutex_);
  const int place = number - numbers_.first;
  if (place < 0 || place >= static_cast<int>(groups_.size())) return absl::nullopt;
  const absl::optional<uid_t> owner = owners_[place / kBlock];
  if (!owner.has_value()) return absl::nullopt;
  return UnixPeer{*owner, groups_[place]};
}

absl::StatusOr<UnixPeer> UnixPeerOf(int descriptor) {
  ucred credentials = {};
  socklen_t length = sizeof credentials;
  if (getsockopt(descriptor, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) {
    return Error(Reason::kIoError,
                 absl::StrCat("the kernel does not say who connected: ", std::strerror(errno)));
  }
  return UnixPeer{credentials.uid, credentials.gid};
}

}  // namespace tidemark::rpc
