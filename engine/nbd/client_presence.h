// Whether anybody waits for the answer to a request that takes long. One thread, that of the
// request.
#ifndef ENGINE_NBD_CLIENT_PRESENCE_H_
#define ENGINE_NBD_CLIENT_PRESENCE_H_

#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "engine/nbd/limits.h"

namespace tidemark::nbd {

class ClientPresence {
 public:
  // `is_gone` looks at the connection, and outlives this.
  explicit ClientPresence(absl::FunctionRef<bool()> is_gone) : is_gone_(is_gone) {}

  // To be asked before each piece of work: CANCELLED if the client has left. Really looks only
  // after so many pieces or bytes, since that is a system call.
  absl::Status Check(uint64_t next_bytes = 0) {
    bytes_ += next_bytes;
    if (++pieces_ <= kPiecesPerPresenceCheck && bytes_ < kBytesPerPresenceCheck) {
      return absl::OkStatus();
    }
    pieces_ = 0;
    bytes_ = 0;
    return is_gone_() ? absl::CancelledError("the client has left") : absl::OkStatus();
  }

 private:
  const absl::FunctionRef<bool()> is_gone_;
  int pieces_ = 0;
  uint64_t bytes_ = 0;
};

}  // namespace tidemark::nbd

#endif  // ENGINE_NBD_CLIENT_PRESENCE_H_
