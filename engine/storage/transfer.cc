#include "engine/storage/transfer.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "engine/storage/aligned_buffer.h"
#include "engine/storage/limits.h"

namespace tidemark::storage {
namespace {

bool IsAligned(const void* memory, uint32_t alignment_bytes) {
  return reinterpret_cast<uintptr_t>(memory) % alignment_bytes == 0;
}

// A request cut for direct I/O: its whole units, and what is left at its ends.
struct Cut {
  Cut(const DataFile& file, uint64_t offset_bytes, size_t length_bytes) {
    const uint64_t mask = file.direct_alignment_bytes - 1;
    const Range range{offset_bytes, length_bytes};
    body = Range::FromTo((offset_bytes + mask) & ~mask, range.end_bytes() & ~mask);
    head_bytes = body.empty() ? length_bytes : body.offset_bytes - offset_bytes;
    tail_bytes = body.empty() ? 0 : range.end_bytes() - body.end_bytes();
  }
  Range body;
  size_t head_bytes;
  size_t tail_bytes;
};

bool PutsOff(int64_t result) { return result == -EINTR || result == -EAGAIN; }

Progress AfterPutOff(Moved* moved) {
  return ++moved->idle_count > kIdleTransfersMax ? Progress::kFailed : Progress::kAgain;
}

Progress AfterBytes(int64_t count, size_t length_bytes, Moved* moved) {
  moved->done_bytes += count;
  moved->idle_count = 0;
  return moved->done_bytes == length_bytes ? Progress::kFinished : Progress::kAgain;
}

}  // namespace

Progress AfterRead(int64_t result, Bytes buffer, Moved* moved) {
  if (PutsOff(result)) return AfterPutOff(moved);
  // A direct read that stopped within a sector has met the end of the file, and may not go on from
  // there: that is no error.
  const bool at_end = result == 0 || (result == -EINVAL && moved->done_bytes % kSectorBytes != 0);
  if (result < 0 && !at_end) return Progress::kFailed;
  if (at_end) {
    std::memset(buffer.data() + moved->done_bytes, 0, buffer.size() - moved->done_bytes);
    moved->done_bytes = buffer.size();
    return Progress::kFinished;
  }
  return AfterBytes(result, buffer.size(), moved);
}

Progress AfterWrite(int64_t result, size_t length_bytes, Moved* moved) {
  if (PutsOff(result)) return AfterPutOff(moved);
  if (result <= 0) return Progress::kFailed;
  return AfterBytes(result, length_bytes, moved);
}

int ReadFully(int fd, uint64_t offset_bytes, Bytes buffer) {
  Moved moved;
  while (moved.done_bytes < buffer.size()) {
    const size_t done_bytes = moved.done_bytes;
    const size_t want_bytes = std::min(buffer.size() - done_bytes, kTransferBytesMax);
    int64_t result = pread(fd, buffer.data() + done_bytes, want_bytes, offset_bytes + done_bytes);
    if (result < 0) result = -errno;
    if (AfterRead(result, buffer, &moved) == Progress::kFailed) return -result;
  }
  return 0;
}

int WriteFully(int fd, uint64_t offset_bytes, ConstBytes data) {
  Moved moved;
  while (moved.done_bytes < data.size()) {
    const size_t done_bytes = moved.done_bytes;
    const size_t want_bytes = std::min(data.size() - done_bytes, kTransferBytesMax);
    int64_t result = pwrite(fd, data.data() + done_bytes, want_bytes, offset_bytes + done_bytes);
    if (result < 0) result = -errno;
    if (AfterWrite(result, data.size(), &moved) == Progress::kFailed) {
      return result == 0 ? ENOSPC : -result;
    }
  }
  return 0;
}

int ReadFullyDirect(const DataFile& file, uint64_t offset_bytes, Bytes buffer) {
  const Cut cut(file, offset_bytes, buffer.size());
  int error = ReadFully(file.buffered_fd, offset_bytes, buffer.first(cut.head_bytes));
  if (error != 0 || cut.body.empty()) return error;

  const Bytes body = buffer.subspan(cut.head_bytes, cut.body.length_bytes);
  if (IsAligned(body.data(), file.direct_alignment_bytes)) {
    error = ReadFully(file.direct_fd, cut.body.offset_bytes, body);
  } else {
    const AlignedBuffer bounce(std::min(body.size(), kBounceBytesMax));
    for (size_t done_bytes = 0; done_bytes < body.size() && error == 0;) {
      const Bytes part = bounce.first(std::min(body.size() - done_bytes, bounce.size()));
      error = ReadFully(file.direct_fd, cut.body.offset_bytes + done_bytes, part);
      std::memcpy(body.data() + done_bytes, part.data(), part.size());
      done_bytes += part.size();
    }
  }
  if (error != 0) return error;
  return ReadFully(file.buffered_fd, cut.body.end_bytes(), buffer.last(cut.tail_bytes));
}

int WriteFullyDirect(const DataFile& file, uint64_t offset_bytes, ConstBytes data) {
  const Cut cut(file, offset_bytes, data.size());
  int error = WriteFully(file.buffered_fd, offset_bytes, data.first(cut.head_bytes));
  if (error != 0 || cut.body.empty()) return error;

  const ConstBytes body = data.subspan(cut.head_bytes, cut.body.length_bytes);
  if (IsAligned(body.data(), file.direct_alignment_bytes)) {
    error = WriteFully(file.direct_fd, cut.body.offset_bytes, body);
  } else {
    const AlignedBuffer bounce(std::min(body.size(), kBounceBytesMax));
    for (size_t done_bytes = 0; done_bytes < body.size() && error == 0;) {
      const Bytes part = bounce.first(std::min(body.size() - done_bytes, bounce.size()));
      std::memcpy(part.data(), body.data() + done_bytes, part.size());
      error = WriteFully(file.direct_fd, cut.body.offset_bytes + done_bytes, part);
      done_bytes += part.size();
    }
  }
  if (error != 0) return error;
  return WriteFully(file.buffered_fd, cut.body.end_bytes(), data.last(cut.tail_bytes));
}

}  // namespace tidemark::storage
