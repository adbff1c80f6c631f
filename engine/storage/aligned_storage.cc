// A request is cut into an unaligned head, whole units, and an unaligned tail. The whole units go
// straight down. A head or tail is its unit read, changed and written back; two of those in one
// unit, or one and a whole write over it, would lose bytes, so they hold the lock alone while whole
// units share it. The lock is held across the I/O of the storage beneath, which never calls back.
#include "engine/storage/aligned_storage.h"

#include <algorithm>
#include <cstring>
#include <shared_mutex>

#include "engine/base/check.h"
#include "engine/base/status_macros.h"
#include "engine/storage/aligned_buffer.h"
#include "engine/storage/errno_status.h"
#include "engine/storage/limits.h"

namespace tidemark::storage {
namespace {

class AlignedStorage final : public ForwardingStorage {
 public:
  explicit AlignedStorage(std::shared_ptr<Storage> next)
      : ForwardingStorage(std::move(next)),
        unit_bytes_(this->next().limits().request_alignment_bytes) {
    CHECK(size_bytes() % unit_bytes_ == 0);
  }

  Limits limits() const override {
    Limits limits = ForwardingStorage::limits();
    limits.request_alignment_bytes = 1;
    return limits;
  }

  absl::Status Read(uint64_t offset_bytes, Bytes buffer) override {
    const Range range{offset_bytes, buffer.size()};
    RETURN_IF_ERROR(CheckInside(range));
    if (IsWhole(range)) return next().Read(offset_bytes, buffer);
    if (range.empty()) return absl::OkStatus();
    const Range outer = range.AlignedOut(unit_bytes_);
    AlignedBuffer bounce(std::min<uint64_t>(outer.length_bytes, BounceBytes()));
    for (uint64_t at = outer.offset_bytes; at < outer.end_bytes();) {
      const Range piece{at, std::min<uint64_t>(bounce.size(), outer.end_bytes() - at)};
      RETURN_IF_ERROR(next().Read(at, bounce.first(piece.length_bytes)));
      const Range wanted = piece.Intersect(range);
      std::memcpy(buffer.data() + (wanted.offset_bytes - offset_bytes),
                  bounce.data() + (wanted.offset_bytes - at), wanted.length_bytes);
      at = piece.end_bytes();
    }
    return absl::OkStatus();
  }

  absl::Status Write(uint64_t offset_bytes, ConstBytes data, WriteOptions options) override {
    return InParts({offset_bytes, data.size()}, [&](Range part, bool whole) {
      const ConstBytes bytes = data.subspan(part.offset_bytes - offset_bytes, part.length_bytes);
      if (whole) return next().Write(part.offset_bytes, bytes, options);
      return Modify(part, [&](std::byte* to) { std::memcpy(to, bytes.data(), bytes.size()); });
    });
  }

  absl::Status WriteZeroes(Range range, ZeroOptions options) override {
    return InParts(range, [&](Range part, bool whole) {
      if (whole) return next().WriteZeroes(part, options);
      return Modify(part, [&](std::byte* to) { std::memset(to, 0, part.length_bytes); });
    });
  }

  // A hint: the units that are not wholly meant stay.
  absl::Status Discard(Range range) override {
    RETURN_IF_ERROR(CheckInside(range));
    const Range inner = WholeUnits(range);
    if (inner.empty()) return absl::OkStatus();
    std::shared_lock<std::shared_mutex> lock(mutex_);
    return next().Discard(inner);
  }

  absl::StatusOr<Extent> Map(Range range) override {
    RETURN_IF_ERROR(CheckInside(range));
    ASSIGN_OR_RETURN(Extent extent, next().Map(range.AlignedOut(unit_bytes_)));
    extent.range = extent.range.Intersect(range);
    return extent;
  }

  absl::StatusOr<std::unique_ptr<Placement>> PlaceRead(Range range) override {
    if (!IsWhole(range)) return nullptr;
    return next().PlaceRead(range);
  }

  absl::StatusOr<std::unique_ptr<Placement>> PlaceWrite(Range range) override {
    if (!IsWhole(range)) return nullptr;
    return next().PlaceWrite(range);
  }

 private:
  uint64_t BounceBytes() const { return std::max<uint64_t>(kBounceBytesMax, unit_bytes_); }

  absl::Status CheckInside(Range range) const {
    return range.FitsIn(size_bytes()) ? absl::OkStatus()
                                      : PastEndError("the disk", range, size_bytes());
  }

  bool IsWhole(Range range) const {
    return range.offset_bytes % unit_bytes_ == 0 && range.length_bytes % unit_bytes_ == 0;
  }

  Range WholeUnits(Range range) const {
    const uint64_t mask = unit_bytes_ - 1;
    return Range::FromTo((range.offset_bytes + mask) & ~mask, range.end_bytes() & ~mask);
  }

  // Calls act(part, whether it is whole units) for the head, the middle and the tail of `range`.
  template <typename Act>
  absl::Status InParts(Range range, Act act) {
    RETURN_IF_ERROR(CheckInside(range));
    if (IsWhole(range)) {
      std::shared_lock<std::shared_mutex> lock(mutex_);
      return act(range, true);
    }
    std::unique_lock<std::shared_mutex> lock(mutex_);
    for (uint64_t at = range.offset_bytes; at < range.end_bytes();) {
      const Range rest = Range::FromTo(at, range.end_bytes());
      Range part = WholeUnits(rest);
      const bool whole = !part.empty() && part.offset_bytes == at;
      if (!whole) part = rest.Intersect(Range{at, 1}.AlignedOut(unit_bytes_));
      RETURN_IF_ERROR(act(part, whole));
      at = part.end_bytes();
    }
    return absl::OkStatus();
  }

  // Reads the unit around `part`, lets `change` write to where the part is in it, writes it back.
  template <typename Change>
  absl::Status Modify(Range part, Change change) {
    const Range unit = part.AlignedOut(unit_bytes_);
    AlignedBuffer bounce(unit.length_bytes);
    RETURN_IF_ERROR(next().Read(unit.offset_bytes, bounce.bytes()));
    change(bounce.data() + (part.offset_bytes - unit.offset_bytes));
    return next().Write(unit.offset_bytes, bounce.bytes(), {});
  }

  const uint32_t unit_bytes_;
  std::shared_mutex mutex_;
};

}  // namespace

std::shared_ptr<Storage> WithAnyAlignment(std::shared_ptr<Storage> next) {
  if (next->limits().request_alignment_bytes == 1) return next;
  return std::make_shared<AlignedStorage>(std::move(next));
}

}  // namespace tidemark::storage
