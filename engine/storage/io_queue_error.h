// What a failed request of an IoQueue is reported as, whichever kind of queue it is.
#ifndef ENGINE_STORAGE_IO_QUEUE_ERROR_H_
#define ENGINE_STORAGE_IO_QUEUE_ERROR_H_

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "engine/storage/errno_status.h"
#include "engine/storage/io_queue.h"

namespace tidemark::storage {

// `result` is what the kernel answered: -errno, or 0 for a write that it did not take.
inline absl::Status TransferError(const IoQueue::Request& request, int64_t result) {
  const bool reads = request.operation == IoQueue::Operation::kRead;
  return ErrnoStatus(result == 0 ? ENOSPC : static_cast<int>(-result),
                     absl::StrCat("cannot ", reads ? "read " : "write ", request.length_bytes,
                                  " bytes at ", request.offset_bytes));
}

}  // namespace tidemark::storage

#endif  // ENGINE_STORAGE_IO_QUEUE_ERROR_H_
