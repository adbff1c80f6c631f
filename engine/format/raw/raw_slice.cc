#include "engine/format/raw/raw_slice.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/storage/errno_status.h"
#include "engine/storage/limits.h"

namespace tidemark::raw {
namespace {

using storage::Bytes;
using storage::ConstBytes;
using storage::Placement;
using storage::Storage;

// A placement of the file, told in offsets of the window.
class ShiftedPlacement final : public Placement {
 public:
  ShiftedPlacement(std::unique_ptr<Placement> placement, uint64_t shift_bytes)
      : placement_(std::move(placement)) {
    pieces_ = placement_->pieces();
    for (Piece& piece : pieces_) piece.range.offset_bytes -= shift_bytes;
  }
  absl::Status Finish() override { return placement_->Finish(); }

 private:
  const std::unique_ptr<Placement> placement_;
};

class RawSlice final : public Storage {
 public:
  RawSlice(std::shared_ptr<Storage> file, const SliceOptions& options)
      : file_(std::move(file)),
        offset_bytes_(options.offset_bytes),
        size_bytes_(options.size_bytes) {}

  uint64_t size_bytes() const override {
    if (size_bytes_.has_value()) return *size_bytes_;
    const uint64_t file_size = file_->size_bytes();
    return file_size > offset_bytes_ ? storage::WholeSectors(file_size - offset_bytes_) : 0;
  }
  storage::Limits limits() const override { return file_->limits(); }

  absl::Status Read(uint64_t offset_bytes, Bytes buffer) override {
    RETURN_IF_ERROR(Check({offset_bytes, buffer.size()}));
    return file_->Read(offset_bytes_ + offset_bytes, buffer);
  }
  absl::Status Write(uint64_t offset_bytes, ConstBytes data,
                     storage::WriteOptions options) override {
    RETURN_IF_ERROR(CheckSpace({offset_bytes, data.size()}));
    return file_->Write(offset_bytes_ + offset_bytes, data, options);
  }
  absl::Status WriteZeroes(Range range, storage::ZeroOptions options) override {
    RETURN_IF_ERROR(CheckSpace(range));
    return file_->WriteZeroes(Shifted(range), options);
  }
  absl::Status Discard(Range range) override {
    RETURN_IF_ERROR(Check(range));
    return file_->Discard(Shifted(range));
  }
  absl::Status Flush() override { return file_->Flush(); }

  absl::Status Resize(uint64_t size_bytes) override {
    if (size_bytes_.has_value()) {
      return Error(
          Reason::kFeatureUnsupported,
          absl::StrCat("a raw window with a size cannot be resized to ", size_bytes, " bytes"));
    }
    if (size_bytes > storage::kFileSizeBytesMax - offset_bytes_) {
      return Error(Reason::kInvalidField, absl::StrCat("size ", size_bytes, " is too large"));
    }
    return file_->Resize(offset_bytes_ + size_bytes);
  }

  absl::StatusOr<storage::Extent> Map(Range range) override {
    RETURN_IF_ERROR(Check(range));
    ASSIGN_OR_RETURN(storage::Extent extent, file_->Map(Shifted(range)));
    extent.range.offset_bytes -= offset_bytes_;
    return extent;
  }
  absl::StatusOr<std::unique_ptr<Placement>> PlaceRead(Range range) override {
    RETURN_IF_ERROR(Check(range));
    return Shift(file_->PlaceRead(Shifted(range)));
  }
  absl::StatusOr<std::unique_ptr<Placement>> PlaceWrite(Range range) override {
    RETURN_IF_ERROR(CheckSpace(range));
    return Shift(file_->PlaceWrite(Shifted(range)));
  }

 private:
  // Without a size the file decides, which may grow where it is written; with one nothing outside
  // may be touched.
  absl::Status Check(Range range) const {
    const uint64_t end =
        size_bytes_.has_value() ? *size_bytes_ : storage::kFileSizeBytesMax - offset_bytes_;
    if (range.FitsIn(end)) return absl::OkStatus();
    return storage::PastEndError("raw window", range, end);
  }
  // A format that writes behind the end of a window finds it full, as it would a device.
  absl::Status CheckSpace(Range range) const {
    const absl::Status status = Check(range);
    if (status.ok() || !size_bytes_.has_value()) return status;
    return Error(Reason::kNoSpace, absl::StrCat("No space left: ", std::string(status.message())));
  }
  Range Shifted(Range range) const {
    return {offset_bytes_ + range.offset_bytes, range.length_bytes};
  }
  absl::StatusOr<std::unique_ptr<Placement>> Shift(
      absl::StatusOr<std::unique_ptr<Placement>> placement) const {
    if (!placement.ok() || *placement == nullptr || offset_bytes_ == 0) return placement;
    return std::make_unique<ShiftedPlacement>(*std::move(placement), offset_bytes_);
  }

  const std::shared_ptr<Storage> file_;
  const uint64_t offset_bytes_;
  const absl::optional<uint64_t> size_bytes_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Storage>> OpenSlice(std::shared_ptr<Storage> file,
                                                   SliceOptions options) {
  const uint64_t file_size = file->size_bytes();
  const uint64_t alignment = file->limits().request_alignment_bytes;
  if (options.offset_bytes > file_size) {
    return Error(Reason::kInvalidField,
                 absl::StrCat("offset ", options.offset_bytes, " is past the end of the file of ",
                              file_size, " bytes"));
  }
  if (options.offset_bytes % alignment != 0 || options.size_bytes.value_or(0) % alignment != 0) {
    return Error(Reason::kInvalidField,
                 absl::StrCat("offset ", options.offset_bytes, " and size ",
                              options.size_bytes.value_or(0), " must be multiples of ", alignment));
  }
  if (options.size_bytes.has_value() &&
      !Range{options.offset_bytes, *options.size_bytes}.FitsIn(file_size)) {
    return Error(Reason::kInvalidField,
                 absl::StrCat("size ", *options.size_bytes, " from offset ", options.offset_bytes,
                              " reaches past the end of the file of ", file_size, " bytes"));
  }
  return std::make_unique<RawSlice>(std::move(file), options);
}

}  // namespace tidemark::raw
