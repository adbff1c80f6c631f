// Bytes on their way into a non-blocking socket: as many as it takes at once, the rest waits here.
// The owner's lock protects it.
#ifndef ADAPTERS_QMP_SEND_BUFFER_H_
#define ADAPTERS_QMP_SEND_BUFFER_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace tidemark::qmp {

class SendBuffer {
 public:
  // Sends or keeps all of `bytes`. 0, or the errno of a socket that takes nothing any more; what
  // was kept is dropped then. Never blocks, never raises SIGPIPE.
  int Send(int socket, absl::string_view bytes);
  // Sends what is kept, as far as the socket takes it. As Send.
  int Flush(int socket);

  size_t kept_bytes() const { return kept_.size() - kept_begin_; }
  // Since the beginning: given to Send, and taken by the socket.
  uint64_t given_total() const { return given_total_; }
  uint64_t sent_total() const { return sent_total_; }

 private:
  std::string kept_;
  // What lies before has been sent.
  size_t kept_begin_ = 0;
  uint64_t given_total_ = 0;
  uint64_t sent_total_ = 0;
};

}  // namespace tidemark::qmp

#endif  // ADAPTERS_QMP_SEND_BUFFER_H_
