#include "engine/storage/watched_placement.h"

#include <algorithm>
#include <deque>
#include <utility>

namespace tidemark::storage {
namespace {

// Stands before the target of one piece, so that the offset in it tells the place on the disk.
class WatchedTarget final : public IoTarget {
 public:
  WatchedTarget(const Placement::Piece& piece, PlacementWatch* watch)
      : piece_(piece), watch_(*watch) {}

  absl::Status Read(uint64_t offset_bytes, Bytes buffer) override {
    return watch_.PlacedRead(OnDisk(offset_bytes, buffer.size()), buffer, [&] {
      if (piece_.target != nullptr) return piece_.target->Read(offset_bytes, buffer);
      std::fill(buffer.begin(), buffer.end(), std::byte{0});
      return absl::OkStatus();
    });
  }
  absl::Status Write(uint64_t offset_bytes, ConstBytes data) override {
    return watch_.PlacedWrite(OnDisk(offset_bytes, data.size()), data,
                              [&] { return piece_.target->Write(offset_bytes, data); });
  }

 private:
  Range OnDisk(uint64_t offset_bytes, size_t length_bytes) const {
    return {offset_bytes - piece_.target_offset_bytes + piece_.range.offset_bytes, length_bytes};
  }

  const Placement::Piece piece_;  // As the storage beneath tells it.
  PlacementWatch& watch_;
};

class WatchedPlacement final : public Placement {
 public:
  WatchedPlacement(std::unique_ptr<Placement> placement, PlacementWatch* watch)
      : placement_(std::move(placement)) {
    for (const Piece& piece : placement_->pieces()) {
      IoTarget* const target = &targets_.emplace_back(piece, watch);
      pieces_.push_back({piece.range, target, piece.target_offset_bytes});
    }
  }
  absl::Status Finish() override { return placement_->Finish(); }

 private:
  const std::unique_ptr<Placement> placement_;
  std::deque<WatchedTarget> targets_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Placement>> WatchPlacement(
    absl::StatusOr<std::unique_ptr<Placement>> placement, PlacementWatch* watch) {
  if (!placement.ok() || *placement == nullptr) return placement;
  return std::make_unique<WatchedPlacement>(*std::move(placement), watch);
}

}  // namespace tidemark::storage
