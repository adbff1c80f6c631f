// For tests: a driver over any storage that remembers what it was told, and refuses what it is told
// to refuse. And a storage that hands out placements.
#ifndef ENGINE_GRAPH_FAKE_DRIVER_H_
#define ENGINE_GRAPH_FAKE_DRIVER_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/error.h"
#include "engine/graph/driver.h"
#include "engine/storage/memory_storage.h"

namespace tidemark::graph {

class FakeDriver final : public Driver {
 public:
  explicit FakeDriver(std::shared_ptr<storage::Storage> storage, std::string name = "fake")
      : name_(std::move(name)), storage_(std::move(storage)) {}
  explicit FakeDriver(uint64_t size_bytes)
      : FakeDriver(std::make_shared<storage::MemoryStorage>(size_bytes)) {}

  absl::string_view name() const override { return name_; }
  std::shared_ptr<storage::Storage> storage() override { return storage_; }
  absl::Status SetPermissions(const Permissions& wanted) override {
    if ((wanted.used & refused_permissions) != 0) {
      return Error(Reason::kImageLocked, "another process has the image");
    }
    permissions = wanted;
    return absl::OkStatus();
  }
  absl::Status ApplyPermissions() override {
    if (apply_status.ok()) applied = permissions;
    return apply_status;
  }
  void SetBacking(std::shared_ptr<storage::Storage> disk) override { backing = std::move(disk); }
  absl::Status CheckStorable(absl::string_view node_name, absl::Span<const BitmapShape> bitmaps,
                             uint64_t size_bytes) override {
    if (!stores_bitmaps) return Driver::CheckStorable(node_name, bitmaps, size_bytes);
    if (bitmaps.size() * size_bytes <= storable_bytes_max) return absl::OkStatus();
    return Error(Reason::kLimitReached, "too many bitmaps for so large a disk");
  }
  absl::Status Close(std::vector<StoredBitmap> bitmaps) override {
    stored = std::move(bitmaps);
    closed_when = ++*close_clock;
    return close_status;
  }

  PermissionSet refused_permissions = storage::kPermissionNone;
  bool stores_bitmaps = false;
  // Bytes of disk that all bitmaps together may stand for.
  uint64_t storable_bytes_max = ~uint64_t{0};
  absl::Status close_status;

  absl::Status apply_status;

  Permissions permissions;  // As last accepted.
  Permissions applied;
  std::shared_ptr<storage::Storage> backing;  // As last set.
  std::vector<StoredBitmap> stored;
  // Drivers that share a clock tell in which order they were closed; 0 is not closed.
  std::shared_ptr<int> close_clock = std::make_shared<int>(0);
  int closed_when = 0;

 private:
  const std::string name_;
  const std::shared_ptr<storage::Storage> storage_;
};

// Hands out a placement for every range, with a single piece in no file. Finish answers as told.
class PlacingStorage final : public storage::ForwardingStorage {
 public:
  using ForwardingStorage::ForwardingStorage;

  absl::StatusOr<std::unique_ptr<storage::Placement>> PlaceRead(Range range) override {
    return std::make_unique<OnePiece>(range, absl::OkStatus());
  }
  absl::StatusOr<std::unique_ptr<storage::Placement>> PlaceWrite(Range range) override {
    return std::make_unique<OnePiece>(range, finish_status);
  }

  absl::Status finish_status;

 private:
  class OnePiece final : public storage::Placement {
   public:
    OnePiece(Range range, absl::Status status) : status_(std::move(status)) {
      pieces_ = {{.range = range}};
    }
    absl::Status Finish() override { return status_; }

   private:
    const absl::Status status_;
  };
};

// A block of one repeated byte.
inline std::vector<std::byte> Filled(size_t length_bytes, int value) {
  return std::vector<std::byte>(length_bytes, std::byte(value));
}

}  // namespace tidemark::graph

#endif  // ENGINE_GRAPH_FAKE_DRIVER_H_
