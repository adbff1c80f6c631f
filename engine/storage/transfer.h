// Moving all of a buffer to or from a file descriptor: short transfers are continued, interrupted
// ones repeated. Any thread; blocks.
#ifndef ENGINE_STORAGE_TRANSFER_H_
#define ENGINE_STORAGE_TRANSFER_H_

#include <cstdint>

#include "absl/status/status.h"
#include "engine/storage/storage.h"

namespace tidemark::storage {

// Where a transfer stands after the kernel's answer to one part of it.
enum class Progress {
  kFinished,
  kAgain,  // Ask again for what is left.
  kFailed,
};

// What has been done of a transfer.
struct Moved {
  size_t done_bytes = 0;
  // Answers in a row that put it off (EINTR, EAGAIN) and moved nothing.
  int idle_count = 0;
};

// What an answer of `result` (bytes moved, or -errno) means for a transfer of which `*moved` was
// done before; brings `*moved` up to date. A read finds zeroes past the end of the file. Whoever is
// put off more than kIdleTransfersMax times has failed.
Progress AfterRead(int64_t result, Bytes buffer, Moved* moved);
// On kFailed for a `result` of 0 the disk took nothing: no space.
Progress AfterWrite(int64_t result, size_t length_bytes, Moved* moved);

// 0, or the errno that stopped it. Fills all of `buffer`; zeroes past the end of the file.
int ReadFully(int fd, uint64_t offset_bytes, Bytes buffer);
int WriteFully(int fd, uint64_t offset_bytes, ConstBytes data);

// The same through a descriptor with O_DIRECT for every part of the request that is whole units of
// `file.direct_alignment_bytes`, and through the page cache for its ends.
int ReadFullyDirect(const DataFile& file, uint64_t offset_bytes, Bytes buffer);
int WriteFullyDirect(const DataFile& file, uint64_t offset_bytes, ConstBytes data);

}  // namespace tidemark::storage

#endif  // ENGINE_STORAGE_TRANSFER_H_
