// How a file is zeroed, and what "cached" means for cache.direct.
//
// Zeroes. Three wishes: give the space back (punch a hole), keep or get space (ZERO_RANGE), and the
// common one in between - zeroes wanted, space may be given back, but the node does not discard.
// There existing holes stay holes and only data is zeroed in place, so a sparse file stays sparse.
// Each way may be missing on a file system; the first refusal is remembered and the next way taken,
// at last plain zeroes as data. Extending is done by writing the last byte, never by ftruncate: a
// truncate to a size read a moment ago would cut off what another thread appended since.
//
// Direct (transfer.h). The aligned middle of a request goes through the O_DIRECT descriptor, by way
// of a bounce buffer if the caller's memory is not aligned, and its ends through the page cache:
// the kernel keeps the two coherent, so nothing is read, modified and written back here.
#include "engine/storage/file_storage.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/storage/aligned_buffer.h"
#include "engine/storage/errno_status.h"
#include "engine/storage/limits.h"
#include "engine/storage/transfer.h"

namespace tidemark::storage {
namespace {

bool MeansUnsupported(int errno_value) {
  return errno_value == EOPNOTSUPP || errno_value == ENODEV || errno_value == ENOSYS ||
         errno_value == ENOTTY;
}

void RaiseTo(std::atomic<uint64_t>* value, uint64_t floor) {
  uint64_t seen = value->load();
  while (seen < floor && !value->compare_exchange_weak(seen, floor)) {
  }
}

class FilePlacement final : public Placement {
 public:
  // `storage` is null for a read.
  FilePlacement(std::vector<Piece> pieces, FileStorage* storage, Range range)
      : storage_(storage), range_(range) {
    pieces_ = std::move(pieces);
  }
  ~FilePlacement() override {
    if (storage_ != nullptr) storage_->NotePartlyWritten(range_);
  }
  absl::Status Finish() override {
    if (storage_ != nullptr) std::exchange(storage_, nullptr)->NoteWritten(range_);
    return absl::OkStatus();
  }

 private:
  FileStorage* storage_;  // Null once there is nothing left to tell it.
  const Range range_;
};

}  // namespace

FileStorage::FileStorage(std::string path, const FileOptions& options)
    : path_(std::move(path)), options_(options) {}

FileStorage::~FileStorage() {
  lock_ = nullptr;
  if (data_file_.direct_fd >= 0) close(data_file_.direct_fd);
  if (data_file_.buffered_fd >= 0) close(data_file_.buffered_fd);
}

absl::Status FileStorage::Failed(int errno_value, absl::string_view verb, Range range) const {
  return ErrnoStatus(errno_value,
                     absl::StrCat("cannot ", verb, " ", range.length_bytes, " bytes at ",
                                  range.offset_bytes, " of \"", path_, "\""));
}

// What failed may have been done in part.
absl::Status FileStorage::ChangeFailed(int errno_value, absl::string_view verb, Range range) {
  NotePartlyWritten(range);
  return Failed(errno_value, verb, range);
}

absl::Status FileStorage::CheckChange(absl::string_view verb, Range range) const {
  if (options_.read_only) {
    return Error(Reason::kNodeReadOnly,
                 absl::StrCat("cannot ", verb, " \"", path_, "\": it is opened read-only"),
                 {{"filename", path_}});
  }
  if (!range.FitsIn(kFileSizeBytesMax)) return PastEndError(path_, range, kFileSizeBytesMax);
  return absl::OkStatus();
}

uint64_t FileStorage::size_bytes() const { return WholeSectors(size_bytes_); }

absl::StatusOr<uint64_t> FileStorage::AllocatedBytes() const {
  struct stat info;
  if (fstat(data_file_.buffered_fd, &info) != 0) {
    return ErrnoStatus(errno, absl::StrCat("cannot look at \"", path_, "\""));
  }
  return static_cast<uint64_t>(info.st_blocks) * 512;
}

absl::Status FileStorage::SetPermissions(PermissionSet used, PermissionSet shared) {
  return lock_ == nullptr ? absl::OkStatus() : lock_->Update(used, shared);
}

Limits FileStorage::limits() const {
  Limits limits;
  limits.can_discard = options_.discard_unmaps && can_punch_ && !options_.read_only;
  limits.can_write_zeroes_fast = (can_zero_ || can_punch_) && !options_.read_only;
  limits.new_ranges_are_zero = !is_block_device_;
  limits.read_only = options_.read_only;
  return limits;
}

absl::Status FileStorage::Read(uint64_t offset_bytes, Bytes buffer) {
  const Range range{offset_bytes, buffer.size()};
  if (!range.FitsIn(kFileSizeBytesMax)) return PastEndError(path_, range, size_bytes_);
  const int error = data_file_.prefer_direct
                        ? ReadFullyDirect(data_file_, offset_bytes, buffer)
                        : ReadFully(data_file_.buffered_fd, offset_bytes, buffer);
  return error == 0 ? absl::OkStatus() : Failed(error, "read", range);
}

absl::Status FileStorage::Write(uint64_t offset_bytes, ConstBytes data, WriteOptions options) {
  const Range range{offset_bytes, data.size()};
  RETURN_IF_ERROR(CheckChange("write to", range));
  if (options.only_unallocated) return HoldsAllError(path_);
  if (options.compressed) {
    return Error(Reason::kFeatureUnsupported,
                 absl::StrCat("file \"", path_, "\" cannot store compressed data"),
                 {{"filename", path_}});
  }
  const int error = data_file_.prefer_direct
                        ? WriteFullyDirect(data_file_, offset_bytes, data)
                        : WriteFully(data_file_.buffered_fd, offset_bytes, data);
  if (error != 0) return ChangeFailed(error, "write", range);
  NoteWritten(range);
  return absl::OkStatus();
}

void FileStorage::NoteWritten(Range range) {
  if (!is_block_device_ && !range.empty()) RaiseTo(&size_bytes_, range.end_bytes());
  change_count_.fetch_add(1);
}

// Our size must not be less than the kernel's: bytes of ours behind it would show when the file
// grows over them, as space that was never written.
void FileStorage::NotePartlyWritten(Range range) {
  NoteWritten({});
  if (is_block_device_ || range.empty() || range.end_bytes() <= size_bytes_) return;
  struct stat info;
  const bool known = fstat(data_file_.buffered_fd, &info) == 0;
  const uint64_t reached_bytes = known ? info.st_size : range.end_bytes();
  RaiseTo(&size_bytes_, std::min(reached_bytes, range.end_bytes()));
}

absl::Status FileStorage::WriteZeroData(Range range) {
  AlignedBuffer zeroes(std::min<uint64_t>(range.length_bytes, kBounceBytesMax));
  std::memset(zeroes.data(), 0, zeroes.size());
  for (uint64_t at = range.offset_bytes; at < range.end_bytes();) {
    const Bytes part = zeroes.first(std::min<uint64_t>(zeroes.size(), range.end_bytes() - at));
    RETURN_IF_ERROR(Write(at, part, {}));
    at += part.size();
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> FileStorage::Allocate(int mode, Range range, std::atomic<bool>* possible) {
  if (!*possible) return false;
  int result;
  do {
    result = fallocate(data_file_.buffered_fd, mode, range.offset_bytes, range.length_bytes);
  } while (result != 0 && errno == EINTR);
  if (result == 0) return true;
  if (MeansUnsupported(errno)) {
    *possible = false;
    return false;
  }
  // A device refuses what is not whole sectors; the caller's next way can do it.
  if (errno == EINVAL) return false;
  return ChangeFailed(errno, "zero", range);
}

absl::StatusOr<bool> FileStorage::ZeroKeepingSpace(Range range) {
  if (is_block_device_) {
    uint64_t arguments[2] = {range.offset_bytes, range.length_bytes};
    if (can_zero_ && ioctl(data_file_.buffered_fd, BLKZEROOUT, arguments) == 0) return true;
    return false;
  }
  ASSIGN_OR_RETURN(bool done, Allocate(FALLOC_FL_ZERO_RANGE, range, &can_zero_));
  if (done || !can_allocate_) return done;
  // Made of two steps: a hole, and space for it.
  ASSIGN_OR_RETURN(done, Allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, range, &can_punch_));
  if (!done) return false;
  return Allocate(0, range, &can_allocate_);
}

absl::StatusOr<bool> FileStorage::ZeroData(Range range) {
  // The kernel is asked, not our size: a write that is under way may have reached further.
  while (!range.empty()) {
    const Extent extent = Seek(range);
    if (!extent.hole) {
      ASSIGN_OR_RETURN(const bool done, ZeroKeepingSpace(extent.range));
      if (!done) return false;
    }
    range = Range::FromTo(extent.range.end_bytes(), range.end_bytes());
  }
  return true;
}

absl::Status FileStorage::WriteZeroes(Range range, ZeroOptions options) {
  RETURN_IF_ERROR(CheckChange("write zeroes to", range));
  if (options.only_unallocated) return HoldsAllError(path_);
  if (range.empty()) return absl::OkStatus();
  absl::StatusOr<bool> done = false;
  if (options.may_unmap && options_.discard_unmaps) {
    done = Allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, range, &can_punch_);
  } else if (options.may_unmap && !is_block_device_) {
    done = ZeroData(range);
  }
  if (done.ok() && !*done) done = ZeroKeepingSpace(range);
  RETURN_IF_ERROR(done.status());
  if (*done) {
    const bool grows = !is_block_device_ && range.end_bytes() > size_bytes_;
    NoteWritten({});
    if (!grows) return absl::OkStatus();
    const std::byte zero{0};
    const uint64_t last_byte = range.end_bytes() - 1;
    const int error = WriteFully(data_file_.buffered_fd, last_byte, ConstBytes(&zero, 1));
    if (error != 0) return ChangeFailed(error, "write", range);
    NoteWritten(range);
    return absl::OkStatus();
  }
  if (options.fast_only) {
    return Error(Reason::kFeatureUnsupported,
                 absl::StrCat("\"", path_, "\" cannot be zeroed without writing zeroes"),
                 {{"filename", path_}});
  }
  return WriteZeroData(range);
}

absl::Status FileStorage::Discard(Range range) {
  RETURN_IF_ERROR(CheckChange("discard in", range));
  const Range part = range.Intersect({0, size_bytes_});
  if (!options_.discard_unmaps || part.empty()) return absl::OkStatus();
  if (is_block_device_) {
    uint64_t arguments[2] = {part.offset_bytes, part.length_bytes};
    if (ioctl(data_file_.buffered_fd, BLKDISCARD, arguments) != 0 && errno != EINVAL &&
        !MeansUnsupported(errno)) {
      return Failed(errno, "discard", part);
    }
    return absl::OkStatus();
  }
  const absl::StatusOr<bool> done =
      Allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, part, &can_punch_);
  NoteWritten({});
  return done.status();
}

absl::Status FileStorage::Flush() {
  if (options_.no_flush || options_.read_only) return absl::OkStatus();
  // Read before: what is changed while the kernel flushes need not be part of it.
  const uint64_t next_change = change_count_ + 1;
  if (flush_errno_ == 0 && flushed_before_ >= next_change) return absl::OkStatus();
  if (flush_errno_ == 0 && fdatasync(data_file_.buffered_fd) != 0) flush_errno_ = errno;
  if (flush_errno_ == 0) {
    RaiseTo(&flushed_before_, next_change);
    return absl::OkStatus();
  }
  return LossStatus(flush_errno_, absl::StrCat("cannot flush \"", path_, "\""));
}

absl::Status FileStorage::Resize(uint64_t size_bytes) {
  RETURN_IF_ERROR(CheckChange("resize", {0, size_bytes}));
  if (is_block_device_) {
    // Others resize it; whoever names the size that it has now takes that over.
    uint64_t device_bytes = 0;
    if (ioctl(data_file_.buffered_fd, BLKGETSIZE64, &device_bytes) != 0) {
      return ErrnoStatus(errno, absl::StrCat("cannot look at \"", path_, "\""));
    }
    if (size_bytes == device_bytes) {
      size_bytes_ = device_bytes;
      NoteWritten({});
      return absl::OkStatus();
    }
    return Error(Reason::kFeatureUnsupported,
                 absl::StrCat("cannot resize block device \"", path_, "\" to ", size_bytes,
                              " bytes: it has ", device_bytes),
                 {{"filename", path_}});
  }
  if (ftruncate(data_file_.buffered_fd, size_bytes) != 0) {
    return ErrnoStatus(errno, absl::StrCat("cannot resize \"", path_, "\" to ", size_bytes));
  }
  size_bytes_ = size_bytes;
  NoteWritten({});
  return absl::OkStatus();
}

Extent FileStorage::Seek(Range range) const {
  const int fd = data_file_.buffered_fd;
  Extent extent;
  extent.range = range;
  const off_t data_bytes = lseek(fd, range.offset_bytes, SEEK_DATA);
  if (data_bytes < 0) {
    // ENXIO: no data up to the end. Anything else: not known, so to be read.
    if (errno == ENXIO) {
      extent.content = Extent::Content::kZero;
      extent.hole = true;
    }
    return extent;
  }
  const uint64_t end_bytes = range.end_bytes();
  if (static_cast<uint64_t>(data_bytes) > range.offset_bytes) {
    extent.content = Extent::Content::kZero;
    extent.hole = true;
    extent.range = Range::FromTo(range.offset_bytes, std::min<uint64_t>(data_bytes, end_bytes));
    return extent;
  }
  const off_t hole_bytes = lseek(fd, range.offset_bytes, SEEK_HOLE);
  if (hole_bytes > data_bytes) {
    extent.range = Range::FromTo(range.offset_bytes, std::min<uint64_t>(hole_bytes, end_bytes));
  }
  return extent;
}

absl::StatusOr<Extent> FileStorage::Map(Range range) {
  if (range.empty() || !range.FitsIn(size_bytes())) return PastEndError(path_, range, size_bytes());
  Extent extent;
  extent.range = range;
  if (is_block_device_) return extent;
  if (range.offset_bytes >= size_bytes_) {  // What fills up the last sector.
    extent.content = Extent::Content::kZero;
    extent.hole = true;
    return extent;
  }

  // Counted before the kernel is asked: a change in between makes the answer stale, not wrong.
  const uint64_t change_count = change_count_;
  {
    MutexLock lock(&mutex_);
    if (mapped_change_count_ == change_count && mapped_.range.Contains(range.offset_bytes)) {
      extent = mapped_;
      extent.range = extent.range.Intersect(range);
      return extent;
    }
  }
  extent = Seek(Range::FromTo(range.offset_bytes, size_bytes_));
  {
    MutexLock lock(&mutex_);
    mapped_ = extent;
    mapped_change_count_ = change_count;
  }
  extent.range = extent.range.Intersect(range);
  // The file may have been cut in the meantime.
  if (extent.range.empty()) return PastEndError(path_, range, size_bytes_);
  return extent;
}

absl::StatusOr<std::unique_ptr<Placement>> FileStorage::PlaceRead(Range range) {
  if (!range.FitsIn(size_bytes())) return PastEndError(path_, range, size_bytes());
  std::vector<Placement::Piece> pieces;
  for (uint64_t at = range.offset_bytes; at < range.end_bytes();) {
    ASSIGN_OR_RETURN(const Extent extent, Map(Range::FromTo(at, range.end_bytes())));
    pieces.push_back({extent.range, extent.content == Extent::Content::kZero ? nullptr : target(),
                      extent.range.offset_bytes});
    at = extent.range.end_bytes();
  }
  return std::make_unique<FilePlacement>(std::move(pieces), nullptr, range);
}

absl::StatusOr<std::unique_ptr<Placement>> FileStorage::PlaceWrite(Range range) {
  RETURN_IF_ERROR(CheckChange("write to", range));
  if (is_block_device_ && !range.FitsIn(size_bytes_)) {
    return PastEndError(path_, range, size_bytes_);
  }
  std::vector<Placement::Piece> pieces;
  if (!range.empty()) pieces.push_back({range, target(), range.offset_bytes});
  return std::make_unique<FilePlacement>(std::move(pieces), this, range);
}

}  // namespace tidemark::storage
