// The handshake: from the first byte a server says to the moment a client has chosen its export.
// Fixed newstyle. One thread, the connection's own; blocks on the socket until the deadline.
#ifndef ENGINE_NBD_NEGOTIATION_H_
#define ENGINE_NBD_NEGOTIATION_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "engine/nbd/context.h"
#include "engine/nbd/export_table.h"
#include "engine/nbd/limits.h"
#include "engine/nbd/socket.h"

namespace tidemark::nbd {

// What was agreed on.
struct Session {
  ExportTable::Use exported;
  // Told to the client, and final.
  uint64_t size_bytes = 0;
  bool read_only = false;
  uint32_t alignment_bytes = 1;
  bool structured = false;
  std::vector<Context> contexts;
};

struct HandshakeOptions {
  // For all of it.
  absl::Duration timeout = kHandshakeTimeout;
  // Tells clients that they may open several connections to an export, whose flushes then cover
  // one another. (They do in any case.)
  bool offers_multiple_connections = true;
};

// Talks until the client has chosen an export, attached to it as `client`. CANCELLED if it left in
// good order without; otherwise the error says what the client did wrong, or how it was lost: the
// connection is then to be closed.
absl::StatusOr<Session> Negotiate(Socket& socket, ExportTable& exports, ExportTable::Client* client,
                                  const HandshakeOptions& options);

}  // namespace tidemark::nbd

#endif  // ENGINE_NBD_NEGOTIATION_H_
