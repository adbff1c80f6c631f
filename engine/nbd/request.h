// One request of a client, whole, with the data of a write. A value that moves between the threads
// of a connection; used by one at a time.
#ifndef ENGINE_NBD_REQUEST_H_
#define ENGINE_NBD_REQUEST_H_

#include <cstdint>
#include <memory>

#include "engine/base/budget.h"
#include "engine/base/range.h"
#include "engine/nbd/memory.h"
#include "engine/nbd/protocol.h"
#include "engine/storage/storage.h"

namespace tidemark::nbd {

struct Request {
  Command command = Command::kRead;  // As sent: may be a number that is no command.
  uint16_t flags = 0;
  uint64_t cookie = 0;
  Range range;  // As sent: may lie anywhere, and wrap.

  // The data of a write, kept alive by one of the two below: small data stays in the block it was
  // received in, large data has memory of its own.
  storage::ConstBytes payload;
  std::shared_ptr<const Memory> block;
  Memory memory;
  // Of the server's budget, for `memory`.
  Budget::Loan loan;
  // A write of more than kPayloadBytesMax, whose data was not received. Nothing follows it.
  bool payload_too_long = false;
};

}  // namespace tidemark::nbd

#endif  // ENGINE_NBD_REQUEST_H_
