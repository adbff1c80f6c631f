// What all kinds of IoQueue share: which descriptor a request goes to, how it is carried out by
// calls, and what a failed one is reported as. Any thread.
#ifndef ENGINE_STORAGE_IO_REQUEST_H_
#define ENGINE_STORAGE_IO_REQUEST_H_

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "engine/storage/errno_status.h"
#include "engine/storage/io_queue.h"
#include "engine/storage/transfer.h"

namespace tidemark::storage {

// -1 if the target wants calls.
inline int DescriptorOf(const IoQueue::Request& request) {
  const DataFile* const file = request.target->file();
  if (file == nullptr) return -1;
  return request.direct ? file->direct_fd : file->buffered_fd;
}

// `result` is what the kernel answered: -errno, or 0 for a write that it did not take.
inline absl::Status TransferError(const IoQueue::Request& request, int64_t result) {
  const bool reads = request.operation == IoQueue::Operation::kRead;
  return ErrnoStatus(result == 0 ? ENOSPC : static_cast<int>(-result),
                     absl::StrCat("cannot ", reads ? "read " : "write ", request.length_bytes,
                                  " bytes at ", request.offset_bytes));
}

// Carries out a request and waits for its disk.
inline absl::Status MoveByCalls(const IoQueue::Request& request) {
  const Bytes bytes(request.memory, request.length_bytes);
  const bool reads = request.operation == IoQueue::Operation::kRead;
  if (request.target->file() == nullptr) {
    return reads ? request.target->Read(request.offset_bytes, bytes)
                 : request.target->Write(request.offset_bytes, bytes);
  }
  const int fd = DescriptorOf(request);
  const int error = reads ? ReadFully(fd, request.offset_bytes, bytes)
                          : WriteFully(fd, request.offset_bytes, bytes);
  return error == 0 ? absl::OkStatus() : TransferError(request, -error);
}

}  // namespace tidemark::storage

#endif  // ENGINE_STORAGE_IO_REQUEST_H_
