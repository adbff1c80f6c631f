// Turns the bytes of a socket into requests, many from one system call. Used by one thread at a
// time.
#ifndef ENGINE_NBD_RECEIVER_H_
#define ENGINE_NBD_RECEIVER_H_

#include <cstddef>
#include <deque>
#include <memory>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/nbd/memory.h"
#include "engine/nbd/request.h"
#include "engine/nbd/socket.h"

namespace tidemark::nbd {

class Receiver {
 public:
  Receiver(Socket& socket, std::shared_ptr<MemoryPool> pool)
      : socket_(socket), pool_(std::move(pool)) {}

  // A request has come whose data needs more memory than may be taken unasked: so many bytes of the
  // budget are to be granted before anything else is received. 0: nothing is wanted.
  size_t wanted_bytes() const { return wanted_bytes_; }
  void Grant(Budget::Loan loan) { granted_ = std::move(loan); }

  // Waits for a whole request, and appends it with all that came along; appends nothing if memory
  // is wanted first. First looks for `spin` without sleeping. An error is final: CANCELLED after
  // NBD_CMD_DISC, UNAVAILABLE if the client was lost, INVALID_ARGUMENT if it sent what cannot be
  // understood.
  absl::Status Receive(absl::Duration spin, std::deque<Request>* requests);

 private:
  // Appends the whole requests among the bytes at hand; starts `large_` if one has much data.
  void Parse(std::deque<Request>* requests);
  bool ParseOne(std::deque<Request>* requests);
  absl::Status ReceiveMore(absl::Duration spin);
  void MakeRoom();
  size_t unread_bytes() const { return end_ - begin_; }

  // Constant after construction.
  Socket& socket_;
  const std::shared_ptr<MemoryPool> pool_;

  // Why there is nothing more to come.
  absl::Status end_of_requests_;
  // The block that is being filled; bytes [begin_, end_) of it are not parsed yet.
  std::shared_ptr<Memory> block_;
  size_t begin_ = 0;
  size_t end_ = 0;
  // Requests point into the block, so that it can only be filled further, never again.
  bool block_is_shared_ = false;
  // How many unread bytes the request at begin_ needs.
  size_t needed_bytes_ = kRequestHeaderBytes;
  size_t wanted_bytes_ = 0;
  Budget::Loan granted_;

  // A write whose data goes to memory of its own, and how much has come.
  bool has_large_ = false;
  Request large_;
  size_t large_bytes_ = 0;
  // The last request was such a write, so that the next one probably is: then only its header is
  // received into the block, and no byte of data has to move.
  bool expects_large_ = false;
};

}  // namespace tidemark::nbd

#endif  // ENGINE_NBD_RECEIVER_H_
