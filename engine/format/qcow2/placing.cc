// Placements: where the bytes of a range lie, or are to lie, in the files beneath.

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "engine/base/check.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/format/qcow2/core.h"

namespace tidemark::qcow2 {
namespace {

using storage::Placement;

// Pieces of other storages' placements, told in offsets of this disk.
class Composed : public Placement {
 protected:
  // `part` was asked of another storage, and stands for this disk from `disk_offset_bytes` on.
  void AddPart(uint64_t disk_offset_bytes, std::unique_ptr<Placement> part) {
    const std::vector<Piece>& pieces = part->pieces();
    const uint64_t base = pieces.empty() ? 0 : pieces.front().range.offset_bytes;
    for (Piece piece : pieces) {
      piece.range.offset_bytes = piece.range.offset_bytes - base + disk_offset_bytes;
      AddPiece(piece);
    }
    parts_.push_back(std::move(part));
  }

  void AddPiece(const Piece& piece) {
    if (!pieces_.empty()) {
      Piece& last = pieces_.back();
      const bool follows =
          piece.target == nullptr ||
          last.target_offset_bytes + last.range.length_bytes == piece.target_offset_bytes;
      if (last.target == piece.target && follows) {
        last.range.length_bytes += piece.range.length_bytes;
        return;
      }
    }
    pieces_.push_back(piece);
  }

  std::vector<std::unique_ptr<Placement>> parts_;
};

class ReadPlacement final : public Composed {
 public:
  explicit ReadPlacement(Core& core) : core_(core), guard_(core.epochs.Enter()) {}

  // False if the range cannot be placed.
  absl::StatusOr<bool> Place(Range range) {
    while (!range.empty()) {
      ASSIGN_OR_RETURN(const Mapping mapping, core_.tables.Lookup(range));
      if (mapping.kind == Mapping::Kind::kCompressed) return false;
      Range placed = mapping.range;
      storage::Storage* beneath = nullptr;
      uint64_t offset_beneath = 0;
      uint64_t end_beneath = 0;
      if (mapping.kind == Mapping::Kind::kData) {
        beneath = core_.data_file.get();
        offset_beneath = mapping.host_offset_bytes;
      } else if (mapping.kind == Mapping::Kind::kUnallocated) {
        beneath = core_.backing.get();
        offset_beneath = placed.offset_bytes;
      }
      if (beneath != nullptr) {
        // Past the end of a file or a backing disk there are zeroes, and no place.
        end_beneath = beneath->size_bytes();
        if (offset_beneath >= end_beneath) {
          beneath = nullptr;
        } else {
          placed.length_bytes = std::min(placed.length_bytes, end_beneath - offset_beneath);
        }
      }
      if (beneath == nullptr) {
        AddPiece({.range = placed});
      } else {
        absl::StatusOr<std::unique_ptr<Placement>> part =
            beneath->PlaceRead({offset_beneath, placed.length_bytes});
        if (HasShrunk(*beneath, part.status(), &end_beneath)) return false;
        RETURN_IF_ERROR(part.status());
        if (*part == nullptr) return false;
        AddPart(placed.offset_bytes, *std::move(part));
      }
      range = Range::FromTo(placed.end_bytes(), range.end_bytes());
    }
    return true;
  }

 private:
  Core& core_;
  const RequestEpochs::Guard guard_;
};

class WritePlacement final : public Composed {
 public:
  WritePlacement(Core& core, Range range)
      : core_(core),
        guard_(core.epochs.Enter()),
        range_(range),
        claim_(core.claims.Acquire(
            Range::FromTo(range.offset_bytes, core.geometry.RoundUp(range.end_bytes())))) {}

  ~WritePlacement() override {
    parts_.clear();
    for (const Stretch& stretch : stretches_) {
      if (stretch.allocated) core_.refcounts->Release(stretch.host_range).IgnoreError();
    }
  }

  // False if the range cannot be placed.
  absl::StatusOr<bool> Place() {
    const uint64_t end = core_.geometry.RoundUp(range_.end_bytes());
    for (uint64_t at = range_.offset_bytes; at < end;) {
      ASSIGN_OR_RETURN(const Mapping mapping, core_.tables.Lookup(Range::FromTo(at, end)));
      RETURN_IF_ERROR(AddStretch(mapping));
      const Stretch& stretch = stretches_.back();
      const Range disk_range = Range{at, stretch.host_range.length_bytes}.Intersect(range_);
      ASSIGN_OR_RETURN(
          std::unique_ptr<Placement> part,
          core_.data_file->PlaceWrite({stretch.host_range.offset_bytes, disk_range.length_bytes}));
      if (part == nullptr) return false;
      AddPart(at, std::move(part));
      at += stretch.host_range.length_bytes;
    }
    return true;
  }

  absl::Status Finish() override {
    CHECK(!finished_);
    finished_ = true;
    for (const auto& part : parts_) RETURN_IF_ERROR(part->Finish());
    RETURN_IF_ERROR(core_.health.CheckWritable());
    for (Stretch& stretch : stretches_) {
      if (!stretch.to_be_linked) continue;
      RETURN_IF_ERROR(ZeroBehindDiskEnd(stretch));
      RETURN_IF_ERROR(Link(&stretch));
    }
    stretches_.clear();
    claim_ = RangeClaims::Claim();
    core_.checkpointer->RunIfWanted();
    return absl::OkStatus();
  }

 private:
  struct Stretch {
    uint64_t disk_offset_bytes = 0;
    Range host_range;  // Whole clusters.
    bool to_be_linked = false;
    bool allocated = false;  // By us, and not linked yet.
    bool reads_as_zeroes = false;
  };

  absl::Status AddStretch(const Mapping& mapping) {
    Stretch stretch;
    stretch.disk_offset_bytes = mapping.range.offset_bytes;
    if (mapping.host_offset_bytes != 0 && mapping.owned) {
      stretch.host_range = {mapping.host_offset_bytes, mapping.range.length_bytes};
      stretch.to_be_linked = mapping.kind == Mapping::Kind::kZero;
    } else {
      ASSIGN_OR_RETURN(
          const Refcounts::Allocation allocation,
          core_.refcounts->Allocate(mapping.range.length_bytes >> core_.geometry.cluster_bits));
      stretch.host_range = allocation.host_range;
      stretch.reads_as_zeroes = allocation.never_written;
      stretch.to_be_linked = stretch.allocated = true;
    }
    stretches_.push_back(stretch);
    return absl::OkStatus();
  }

  // The last cluster may reach past the end of the disk: nothing old may show if that grows.
  absl::Status ZeroBehindDiskEnd(const Stretch& stretch) {
    const uint64_t stretch_end = stretch.disk_offset_bytes + stretch.host_range.length_bytes;
    if (stretch.reads_as_zeroes || stretch_end <= range_.end_bytes()) return absl::OkStatus();
    const uint64_t length = stretch_end - range_.end_bytes();
    return core_.data_file->WriteZeroes({stretch.host_range.end_bytes() - length, length}, {});
  }

  absl::Status Link(Stretch* stretch) {
    const uint64_t disk_end = stretch->disk_offset_bytes + stretch->host_range.length_bytes;
    uint64_t host = stretch->host_range.offset_bytes;
    for (uint64_t at = stretch->disk_offset_bytes; at < disk_end;) {
      const uint64_t step_end = std::min(disk_end, core_.tables.SetEndBytes(at));
      std::vector<L2Entry> entries((step_end - at) >> core_.geometry.cluster_bits);
      for (L2Entry& entry : entries) {
        entry = core_.tables.entries().Data(host);
        host += core_.geometry.cluster_bytes();
      }
      RETURN_IF_ERROR(core_.tables.Set(at, entries));
      at = step_end;
      // What is linked is no longer ours to release.
      stretch->disk_offset_bytes = at;
      stretch->host_range = Range::FromTo(host, stretch->host_range.end_bytes());
    }
    stretch->allocated = false;
    return absl::OkStatus();
  }

  Core& core_;
  const RequestEpochs::Guard guard_;
  const Range range_;
  RangeClaims::Claim claim_;
  std::vector<Stretch> stretches_;
  bool finished_ = false;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Placement>> PlaceDiskRead(Core& core, Range range) {
  auto placement = std::make_unique<ReadPlacement>(core);
  ASSIGN_OR_RETURN(const bool placed, placement->Place(range));
  if (!placed) return nullptr;
  return placement;
}

absl::StatusOr<std::unique_ptr<Placement>> PlaceDiskWrite(Core& core, Range range) {
  const uint64_t end = range.end_bytes();
  if (core.geometry.OffsetInCluster(range.offset_bytes) != 0 || range.empty() ||
      (core.geometry.OffsetInCluster(end) != 0 && end != core.size_bytes.load())) {
    return nullptr;
  }
  auto placement = std::make_unique<WritePlacement>(core, range);
  ASSIGN_OR_RETURN(const bool placed, placement->Place());
  if (!placed) return nullptr;
  return placement;
}

}  // namespace tidemark::qcow2
