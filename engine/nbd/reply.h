// The answer to one request, encoded: headers, and the memory that they announce. Made by whoever
// ran the request, sent once. A plain value; any thread.
#ifndef ENGINE_NBD_REPLY_H_
#define ENGINE_NBD_REPLY_H_

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "engine/base/range.h"
#include "engine/nbd/memory.h"
#include "engine/nbd/protocol.h"

namespace tidemark::nbd {

// The protocol's number for a failure of the storage.
Errno ErrnoOf(const absl::Status& status);

class Reply {
 public:
  // A simple reply: the outcome, and for a read that went well its data.
  static Reply Simple(uint64_t cookie, Errno error, Memory data = {});
  // A structured reply that says no more than that all went well.
  static Reply Done(uint64_t cookie);
  // A structured reply with an error for people to read (cut to kErrorTextBytesMax).
  static Reply Failure(uint64_t cookie, Errno error, absl::string_view text, MemoryPool& pool);

  // A structured reply in chunks. `data` is what the chunks take their bytes from.
  Reply(uint64_t cookie, Memory data) : cookie_(cookie), data_(std::move(data)) {}
  Reply(Reply&&) = default;
  Reply& operator=(Reply&&) = default;

  // The chunk for `range` of the disk, found in the memory at `memory_offset`.
  void AddData(Range range, size_t memory_offset, bool last);
  // The chunk for a `range` (at most 4 GiB - 1 long) of zeroes.
  void AddHole(Range range, bool last);
  // The chunk for a context: `length` bytes of the memory, already encoded.
  void AddBlockStatus(uint32_t context_id, size_t memory_offset, size_t length, bool last);

  // What to send, in order, appended to `parts`; valid while this reply stays where it is.
  void AppendParts(std::vector<iovec>* parts);
  size_t size_bytes() const;
  // Memory that it holds until it has been sent.
  size_t held_bytes() const { return data_.size(); }

 private:
  // A header, then a stretch of the memory.
  struct Segment {
    std::array<std::byte, kChunkHeaderBytes + 12> header;
    size_t header_bytes = 0;
    size_t memory_offset = 0;
    size_t memory_bytes = 0;
  };

  Segment& AddChunk(Chunk type, uint32_t extra_header_bytes, size_t memory_bytes, bool last);

  uint64_t cookie_;
  Memory data_;
  absl::InlinedVector<Segment, 1> segments_;
};

}  // namespace tidemark::nbd

#endif  // ENGINE_NBD_REPLY_H_
