#include "engine/storage/placeable_storage.h"

#include <vector>

#include "engine/base/status_macros.h"

namespace tidemark::storage {
namespace {

// What is written is part of the disk as it is written: nothing is left to do.
class DonePlacement final : public Placement {
 public:
  explicit DonePlacement(std::vector<Piece> pieces) { pieces_ = std::move(pieces); }
};

}  // namespace

absl::StatusOr<std::unique_ptr<Placement>> PlaceableStorage::PlaceRead(Range range) {
  std::vector<Placement::Piece> pieces;
  while (!range.empty()) {
    ASSIGN_OR_RETURN(const Extent extent, next().Map(range));
    const bool is_zero = extent.content == Extent::Content::kZero;
    pieces.push_back({extent.range, is_zero ? nullptr : &target_, extent.range.offset_bytes});
    range = Range::FromTo(extent.range.end_bytes(), range.end_bytes());
  }
  return std::make_unique<DonePlacement>(std::move(pieces));
}

absl::StatusOr<std::unique_ptr<Placement>> PlaceableStorage::PlaceWrite(Range range) {
  std::vector<Placement::Piece> pieces;
  if (!range.empty()) pieces.push_back({range, &target_, range.offset_bytes});
  return std::make_unique<DonePlacement>(std::move(pieces));
}

}  // namespace tidemark::storage
