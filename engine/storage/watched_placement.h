// Placements whose bytes do not move unseen: for wrappers that hand placements on, but delay, fail,
// count or look at what is read and written by them.
#ifndef ENGINE_STORAGE_WATCHED_PLACEMENT_H_
#define ENGINE_STORAGE_WATCHED_PLACEMENT_H_

#include <memory>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/storage/storage.h"

namespace tidemark::storage {

// What a wrapper does about bytes that move by its placements. Any thread, several at once; may
// block. `range` is of the placed disk. `move` moves the bytes beneath; a wrapper that does not
// call it answers in its place.
class PlacementWatch {
 public:
  virtual ~PlacementWatch() = default;

  virtual absl::Status PlacedRead(Range range, Bytes buffer,
                                  absl::FunctionRef<absl::Status()> move) = 0;
  virtual absl::Status PlacedWrite(Range range, ConstBytes data,
                                   absl::FunctionRef<absl::Status()> move) = 0;
};

// A placement of the storage beneath with every move of its bytes handed to `watch`, which outlives
// it; also the reading of stretches that are zeroes. Errors and null stay what they are.
absl::StatusOr<std::unique_ptr<Placement>> WatchPlacement(
    absl::StatusOr<std::unique_ptr<Placement>> placement, PlacementWatch* watch);

}  // namespace tidemark::storage

#endif  // ENGINE_STORAGE_WATCHED_PLACEMENT_H_
