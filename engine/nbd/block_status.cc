#include "engine/nbd/block_status.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/nbd/protocol.h"

namespace tidemark::nbd {

namespace {

// Collects extents from left to right, joining equals.
class ExtentList {
 public:
  explicit ExtentList(size_t extents_max) : extents_max_(extents_max) {}

  // False if there is no room for an extent of another kind.
  bool Add(uint64_t length_bytes, uint32_t flags) {
    if (!extents_.empty() && extents_.back().flags == flags) {
      extents_.back().length_bytes += static_cast<uint32_t>(length_bytes);
      return true;
    }
    if (extents_.size() == extents_max_) return false;
    extents_.push_back({static_cast<uint32_t>(length_bytes), flags});
    return true;
  }
  std::vector<StatusExtent> Take() { return std::move(extents_); }

 private:
  const size_t extents_max_;
  std::vector<StatusExtent> extents_;
};

uint32_t FlagsOf(const storage::Extent& extent, Context::Kind kind) {
  if (kind == Context::Kind::kDepth) return static_cast<uint32_t>(extent.depth);
  uint32_t flags = 0;
  if (extent.hole) flags |= kStateHole;
  if (extent.content == storage::Extent::Content::kZero) flags |= kStateZero;
  return flags;
}

absl::StatusOr<std::vector<StatusExtent>> StatusFromMap(storage::Storage& storage,
                                                        Context::Kind kind, Range range,
                                                        size_t extents_max,
                                                        ClientPresence& client) {
  ExtentList list(extents_max);
  while (!range.empty()) {
    RETURN_IF_ERROR(client.Check());
    ASSIGN_OR_RETURN(const storage::Extent extent, storage.Map(range));
    if (extent.range.offset_bytes != range.offset_bytes || extent.range.empty() ||
        extent.range.length_bytes > range.length_bytes) {
      return Error(Reason::kIoError,
                   absl::StrCat("asked what ", range.ToString(), " holds, the disk told of ",
                                extent.range.ToString()));
    }
    if (!list.Add(extent.range.length_bytes, FlagsOf(extent, kind))) break;
    range = Range::FromTo(extent.range.end_bytes(), range.end_bytes());
  }
  return list.Take();
}

std::vector<StatusExtent> StatusFromBitmap(const bitmap::DirtyBitmap& bitmap, Range range,
                                           size_t extents_max) {
  ExtentList list(extents_max);
  uint64_t position = range.offset_bytes;
  while (position < range.end_bytes()) {
    const auto dirty = bitmap.NextDirty(position, range.end_bytes() - position);
    const uint64_t dirty_begin = dirty.has_value()
                                     ? std::clamp(dirty->offset_bytes, position, range.end_bytes())
                                     : range.end_bytes();
    if (dirty_begin > position && !list.Add(dirty_begin - position, 0)) break;
    if (dirty_begin == range.end_bytes()) break;
    const uint64_t dirty_end = std::min(dirty->end_bytes(), range.end_bytes());
    if (!list.Add(dirty_end - dirty_begin, kStateDirty)) break;
    position = dirty_end;
  }
  return list.Take();
}

}  // namespace

absl::StatusOr<std::vector<StatusExtent>> StatusOf(const Export& exported, const Context& context,
                                                   Range range, size_t extents_max,
                                                   ClientPresence& client) {
  CHECK(!range.empty() && range.length_bytes <= UINT32_MAX && extents_max > 0);
  if (context.kind == Context::Kind::kBitmap) {
    return StatusFromBitmap(*exported.bitmaps[context.bitmap_index].bitmap, range, extents_max);
  }
  return StatusFromMap(*exported.storage, context.kind, range, extents_max, client);
}

}  // namespace tidemark::nbd
