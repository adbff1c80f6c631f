// A disk as bytes at offsets: a file, a qcow2 image over a file, a filter over an image. Everything
// that holds guest data is a Storage, and each layer is made to be wrapped by the next.
//
// There are two ways in. The blocking verbs carry metadata and odd requests; they may wait for a
// disk, so only workers call them. Placements carry data: they say where bytes live (or are to go),
// so that one worker can keep many requests in flight on an IoQueue (io_queue.h).
//
// Thread rule: every verb is safe from any number of threads at once. Two overlapping writes in
// flight at the same time leave either one's bytes, never a mix within one sector, and never damage
// elsewhere. Errors: OUT_OF_RANGE for a range past the end, NO_SPACE for ENOSPC,
// FEATURE_UNSUPPORTED for what this storage cannot do, NODE_READ_ONLY for a read-only storage,
// IMAGE_CORRUPT for broken metadata, IO_ERROR (with the errno's text) otherwise. `errno_status.h`
// maps errnos both ways.
#ifndef ENGINE_STORAGE_STORAGE_H_
#define ENGINE_STORAGE_STORAGE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/base/range.h"

namespace tidemark::storage {

using Bytes = absl::Span<std::byte>;
using ConstBytes = absl::Span<const std::byte>;

// What one stretch of a disk holds.
struct Extent {
  enum class Content {
    kData,  // Bytes that must be read to be known.
    kZero,  // Reads as zeroes; nothing needs to be read.
  };
  Range range;
  Content content = Content::kData;
  // Which layer of the backing chain holds it: 1 is this storage itself, 2 its backing image, and
  // so on; 0 if no layer does (it reads as zeroes). NBD's qemu:allocation-depth.
  int depth = 1;
  // True if the bytes are stored compressed, so that they have no place of their own in a file.
  bool compressed = false;
  // True if the stretch occupies no space where it would be stored: NBD's hole flag.
  bool hole = false;

  bool SameKindAs(const Extent& other) const {
    return content == other.content && depth == other.depth && compressed == other.compressed &&
           hole == other.hole;
  }
};

struct WriteOptions {
  // Store compressed where the format can. The range must be whole, not yet allocated clusters.
  bool compressed = false;
  // The disk reads the same afterwards (copying up what a layer below holds): no bitmap is marked,
  // no old data is saved.
  bool unchanged = false;
  // Write only the clusters that this storage holds nothing of; those that it holds something of,
  // zeroes too, keep it, also if that was written by somebody else a moment ago. The range must be
  // whole clusters. Only if `limits().can_write_unallocated`, else FEATURE_UNSUPPORTED.
  bool only_unallocated = false;
};

struct ZeroOptions {
  // Space may be given back. False keeps the range allocated, as a preallocated disk wants.
  bool may_unmap = true;
  // Fail with UNIMPLEMENTED rather than write zeroes as data.
  bool fast_only = false;
  // As in WriteOptions.
  bool unchanged = false;
  bool only_unallocated = false;
};

// What a storage asks of its callers and can do. Constant while it is open, but for Resize.
struct Limits {
  // Offsets and lengths of requests must be multiples of this: a power of two, 1 for most.
  uint32_t request_alignment_bytes = 1;
  // The natural unit of allocation, so of backup copies; 0 if there is none.
  uint32_t cluster_size_bytes = 0;
  // A fresh, never written range reads as zeroes and takes no space.
  bool new_ranges_are_zero = true;
  bool can_discard = false;
  // WriteZeroes with may_unmap is cheap, as is fast_only.
  bool can_write_zeroes_fast = false;
  bool can_write_compressed = false;
  // It knows what it holds nothing of (WriteOptions::only_unallocated).
  bool can_write_unallocated = false;
  bool read_only = false;
};

// An open file as the kernel knows it. Both descriptors are the same file; the storage that handed
// it out owns them and keeps them open while the placement lives.
struct DataFile {
  int buffered_fd = -1;
  // Opened with O_DIRECT, -1 where the file system refuses it.
  int direct_fd = -1;
  // What offset, length and memory must be multiples of for `direct_fd`.
  uint32_t direct_alignment_bytes = 4096;
  // The user asked for cache.direct: requests that meet the alignment should use `direct_fd`.
  bool prefer_direct = false;
};

// What batch requests go to (io_queue.h): a file, the disk of a simulation, or a wrapper that
// stands before another target. Lives as long as the placement that names it. Any thread.
class IoTarget {
 public:
  virtual ~IoTarget() = default;

  // The descriptors to use if the kernel may move the bytes by itself. Null if every request must
  // come as one of the calls below: a wrapper that answers null is not passed by.
  virtual const DataFile* file() const { return nullptr; }

  // Move all of a request, or fail; block while the disk does. A read past the end gives zeroes.
  virtual absl::Status Read(uint64_t offset_bytes, Bytes buffer) = 0;
  virtual absl::Status Write(uint64_t offset_bytes, ConstBytes data) = 0;
};

// Where the bytes of a range are, or are to go, pinned until the placement is destroyed: no
// allocation moves or reuses those bytes meanwhile. Used by one thread at a time.
class Placement {
 public:
  struct Piece {
    Range range;  // In the placed disk.
    // Null for a stretch that reads as zeroes (reads only).
    IoTarget* target = nullptr;
    uint64_t target_offset_bytes = 0;
  };

  // A placement that is destroyed without a successful Finish is as if it had never been made: for
  // writes, what was allocated is freed again and the disk reads as before.
  virtual ~Placement() = default;

  // In ascending order, without gaps, covering exactly the range that was asked for.
  const std::vector<Piece>& pieces() const { return pieces_; }

  // Writes: the bytes of every piece are in their target; makes them part of the disk. At most
  // once. May block on metadata. Reads: does nothing.
  virtual absl::Status Finish() { return absl::OkStatus(); }

 protected:
  std::vector<Piece> pieces_;
};

class Storage {
 public:
  virtual ~Storage() = default;

  virtual uint64_t size_bytes() const = 0;
  virtual Limits limits() const = 0;

  // Fills all of `buffer`, or fails.
  virtual absl::Status Read(uint64_t offset_bytes, Bytes buffer) = 0;

  // After OK, reads see the data. It is durable only after a Flush.
  virtual absl::Status Write(uint64_t offset_bytes, ConstBytes data, WriteOptions options = {}) = 0;

  // As Write of zeroes, without the data.
  virtual absl::Status WriteZeroes(Range range, ZeroOptions options = {}) = 0;

  // Tells that nobody needs the bytes. A hint: may do nothing, in whole or for partial clusters;
  // the range then reads as before or as zeroes.
  virtual absl::Status Discard(Range range) = 0;

  // Everything written before this call is durable after it. A storage that may have lost what it
  // had taken fails this call from then on: that another one succeeds must mean what it says.
  virtual absl::Status Flush() = 0;

  // Grown space reads as zeroes. Callers see to it that no request is in flight.
  virtual absl::Status Resize(uint64_t size_bytes) = 0;

  // What the beginning of `range` (not empty, within the disk) holds, through the whole backing
  // chain. The answer starts where asked, is at least one byte and at most `range`; it need not be
  // the longest.
  virtual absl::StatusOr<Extent> Map(Range range) = 0;

  // For batch I/O; null if this range cannot be placed (compressed, encrypted, misaligned, a
  // storage without files): use the blocking verbs then. Blocks only for metadata. A read placement
  // is of data as of now; a concurrent write makes it undefined which bytes are seen.
  virtual absl::StatusOr<std::unique_ptr<Placement>> PlaceRead(Range range);
  // `range` is whole clusters (the last one of the disk may be partial, and is then rounded up by
  // the storage). Overlapping writes of others wait until the placement is gone: keep it short.
  virtual absl::StatusOr<std::unique_ptr<Placement>> PlaceWrite(Range range);

  // Somebody waits until nothing is in flight here: whoever holds placements finishes them before
  // it makes another. (New requests of those who hold none wait.)
  virtual bool draining() const { return false; }
};

// Hands every verb on to another storage: a wrapper overrides only what it is about. Placements are
// not handed on, because a wrapper that changes reads or writes would be passed by: one that has
// nothing to do with them says so, one that wants to see their bytes move watches them
// (watched_placement.h).
class ForwardingStorage : public Storage {
 public:
  explicit ForwardingStorage(std::shared_ptr<Storage> next) : next_(std::move(next)) {}

  uint64_t size_bytes() const override { return next_->size_bytes(); }
  Limits limits() const override { return next_->limits(); }
  absl::Status Read(uint64_t offset_bytes, Bytes buffer) override {
    return next_->Read(offset_bytes, buffer);
  }
  absl::Status Write(uint64_t offset_bytes, ConstBytes data, WriteOptions options = {}) override {
    return next_->Write(offset_bytes, data, options);
  }
  absl::Status WriteZeroes(Range range, ZeroOptions options = {}) override {
    return next_->WriteZeroes(range, options);
  }
  absl::Status Discard(Range range) override { return next_->Discard(range); }
  absl::Status Flush() override { return next_->Flush(); }
  absl::Status Resize(uint64_t size_bytes) override { return next_->Resize(size_bytes); }
  absl::StatusOr<Extent> Map(Range range) override { return next_->Map(range); }
  bool draining() const override { return next_->draining(); }

 protected:
  Storage& next() { return *next_; }

 private:
  const std::shared_ptr<Storage> next_;
};

}  // namespace tidemark::storage

#endif  // ENGINE_STORAGE_STORAGE_H_
