// Makes a storage without files placeable: batch requests to it are served by its own blocking
// verbs. For disks in memory, crashing and simulated ones, so that placed I/O needs no descriptor.
// Thread rule: as the storage beneath.
#ifndef ENGINE_STORAGE_PLACEABLE_STORAGE_H_
#define ENGINE_STORAGE_PLACEABLE_STORAGE_H_

#include <memory>
#include <utility>

#include "engine/storage/storage.h"
#include "engine/storage/storage_target.h"

namespace tidemark::storage {

// Stretches that read as zeroes have no place, as in a file.
class PlaceableStorage final : public ForwardingStorage {
 public:
  explicit PlaceableStorage(std::shared_ptr<Storage> next)
      : ForwardingStorage(std::move(next)), target_(&this->next()) {}

  absl::StatusOr<std::unique_ptr<Placement>> PlaceRead(Range range) override;
  absl::StatusOr<std::unique_ptr<Placement>> PlaceWrite(Range range) override;

 private:
  StorageTarget target_;
};

}  // namespace tidemark::storage

#endif  // ENGINE_STORAGE_PLACEABLE_STORAGE_H_
