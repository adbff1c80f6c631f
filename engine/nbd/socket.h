// A connected stream socket, owned. One thread receives at a time and one sends at a time, which
// may be two different threads; Shutdown and ShutdownReceive are for any thread.
#ifndef ENGINE_NBD_SOCKET_H_
#define ENGINE_NBD_SOCKET_H_

#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/base/budget.h"
#include "engine/storage/storage.h"

namespace tidemark::nbd {

using storage::Bytes;
using storage::ConstBytes;

// Bytes of text as bytes to send.
inline ConstBytes AsBytes(absl::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

class Socket {
 public:
  // Takes over `fd`; turns off Nagle's delay and asks for keepalives on TCP.
  explicit Socket(int fd);
  ~Socket();
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  // A peer that takes nothing, or sends nothing while bytes are owed, for `stalled_max` is given up
  // if somebody waits for `memory`: this peer holds some of it. Before the first call of the below;
  // `memory` outlives the socket.
  void GiveUpIfStalled(const Budget* memory, absl::Duration stalled_max) {
    memory_ = memory;
    stalled_max_ = stalled_max;
  }

  // Receives at least one byte into `parts`, in order, and returns how many; 0 once the peer has
  // closed. First looks for `spin` without sleeping. `owed`: the peer has announced them.
  absl::StatusOr<size_t> Receive(absl::Span<const iovec> parts, absl::Duration spin,
                                 bool owed = false);

  // All of `buffer`, or an error: UNAVAILABLE if the peer closed first, DEADLINE_EXCEEDED at
  // `deadline` of the monotonic clock (Clock::Elapsed).
  absl::Status ReceiveAll(Bytes buffer, absl::Duration deadline);

  // Sends all of `parts` (which it changes). If the peer does not take them, waits until
  // `deadline`, or once ShutdownReceive has been called, a grace of kSendGrace at most.
  absl::Status SendAll(absl::Span<iovec> parts, absl::Duration deadline = absl::InfiniteDuration());
  absl::Status SendAll(ConstBytes bytes, absl::Duration deadline);

  // The peer takes nothing any more. One that has only ended what it sends may still wait for
  // answers; over TCP a peer that closed looks the same until something is sent to it. Any thread.
  bool PeerIsGone() const;

  // Ends the connection now, both ways.
  void Shutdown();
  // Receives nothing from now on; what is being sent may still go out.
  void ShutdownReceive();

 private:
  bool IsStalled(absl::Duration since) const;

  // Constant after construction, or GiveUpIfStalled.
  const int fd_;
  const Budget* memory_ = nullptr;
  absl::Duration stalled_max_ = absl::InfiniteDuration();

  // Synchronises itself: set once.
  std::atomic<bool> ending_ = false;
};

}  // namespace tidemark::nbd

#endif  // ENGINE_NBD_SOCKET_H_
