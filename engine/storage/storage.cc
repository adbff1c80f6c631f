#include "engine/storage/storage.h"

namespace tidemark::storage {

absl::StatusOr<std::unique_ptr<Placement>> Storage::PlaceRead(Range) { return nullptr; }
absl::StatusOr<std::unique_ptr<Placement>> Storage::PlaceWrite(Range) { return nullptr; }

}  // namespace tidemark::storage
