#include "engine/nbd/reply.h"

#include <errno.h>

#include <algorithm>
#include <cstring>

#include "engine/base/check.h"
#include "engine/base/endian.h"
#include "engine/storage/errno_status.h"

namespace tidemark::nbd {

Errno ErrnoOf(const absl::Status& status) {
  switch (storage::ErrnoOf(status)) {
    case 0:
      return Errno::kNone;
    case EPERM:
    case EACCES:
    case EROFS:
      return Errno::kPermission;
    case EINVAL:
    case ERANGE:
      return Errno::kInvalid;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return Errno::kNoSpace;
    case ENOTSUP:
      return Errno::kNotSupported;
    case EOVERFLOW:
      return Errno::kOverflow;
    case ENOMEM:
      return Errno::kNoMemory;
    case ESHUTDOWN:
      return Errno::kShutdown;
    default:
      return Errno::kIo;
  }
}

Reply Reply::Simple(uint64_t cookie, Errno error, Memory data) {
  Reply reply(cookie, std::move(data));
  Segment& segment = reply.segments_.emplace_back();
  segment.header_bytes = kSimpleReplyHeaderBytes;
  segment.memory_bytes = reply.data_.size();
  StoreBigEndian(&segment.header[0], kSimpleReplyMagic);
  StoreBigEndian(&segment.header[4], static_cast<uint32_t>(error));
  StoreBigEndian(&segment.header[8], cookie);
  return reply;
}

Reply Reply::Done(uint64_t cookie) {
  Reply reply(cookie, {});
  reply.AddChunk(Chunk::kNone, 0, 0, /*last=*/true);
  return reply;
}

Reply Reply::Failure(uint64_t cookie, Errno error, absl::string_view text, MemoryPool& pool) {
  text = text.substr(0, kErrorTextBytesMax);
  Reply reply(cookie, pool.Take(text.size()));
  if (!text.empty()) std::memcpy(reply.data_.data(), text.data(), text.size());
  Segment& segment = reply.AddChunk(Chunk::kError, 6, text.size(), /*last=*/true);
  StoreBigEndian(&segment.header[kChunkHeaderBytes], static_cast<uint32_t>(error));
  StoreBigEndian(&segment.header[kChunkHeaderBytes + 4], static_cast<uint16_t>(text.size()));
  return reply;
}

void Reply::AddData(Range range, size_t memory_offset, bool last) {
  Segment& segment = AddChunk(Chunk::kOffsetData, 8, range.length_bytes, last);
  segment.memory_offset = memory_offset;
  StoreBigEndian(&segment.header[kChunkHeaderBytes], range.offset_bytes);
}

void Reply::AddHole(Range range, bool last) {
  Segment& segment = AddChunk(Chunk::kOffsetHole, 12, 0, last);
  StoreBigEndian(&segment.header[kChunkHeaderBytes], range.offset_bytes);
  StoreBigEndian(&segment.header[kChunkHeaderBytes + 8], static_cast<uint32_t>(range.length_bytes));
}

void Reply::AddBlockStatus(uint32_t context_id, size_t memory_offset, size_t length, bool last) {
  Segment& segment = AddChunk(Chunk::kBlockStatus, 4, length, last);
  segment.memory_offset = memory_offset;
  StoreBigEndian(&segment.header[kChunkHeaderBytes], context_id);
}

Reply::Segment& Reply::AddChunk(Chunk type, uint32_t extra_header_bytes, size_t memory_bytes,
                                bool last) {
  Segment& segment = segments_.emplace_back();
  segment.header_bytes = kChunkHeaderBytes + extra_header_bytes;
  segment.memory_bytes = memory_bytes;
  StoreBigEndian(&segment.header[0], kStructuredReplyMagic);
  StoreBigEndian(&segment.header[4], last ? kChunkDone : uint16_t{0});
  StoreBigEndian(&segment.header[6], static_cast<uint16_t>(type));
  StoreBigEndian(&segment.header[8], cookie_);
  StoreBigEndian(&segment.header[16], static_cast<uint32_t>(extra_header_bytes + memory_bytes));
  return segment;
}

void Reply::AppendParts(std::vector<iovec>* parts) {
  for (Segment& segment : segments_) {
    parts->push_back({segment.header.data(), segment.header_bytes});
    if (segment.memory_bytes == 0) continue;
    CHECK(segment.memory_offset + segment.memory_bytes <= data_.size());
    parts->push_back({data_.data() + segment.memory_offset, segment.memory_bytes});
  }
}

size_t Reply::size_bytes() const {
  size_t total = 0;
  for (const Segment& segment : segments_) total += segment.header_bytes + segment.memory_bytes;
  return total;
}

}  // namespace tidemark::nbd
