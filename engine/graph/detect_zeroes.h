// detect-zeroes: turns writes of zeroes into WriteZeroes. Any thread, as every storage.
#ifndef ENGINE_GRAPH_DETECT_ZEROES_H_
#define ENGINE_GRAPH_DETECT_ZEROES_H_

#include <memory>
#include <utility>

#include "engine/storage/storage.h"

namespace tidemark::graph {

// Placed writes are not handed on: their data would pass unseen.
class DetectZeroesStorage final : public storage::ForwardingStorage {
 public:
  // `may_unmap`: zeroes found need not keep their space.
  DetectZeroesStorage(std::shared_ptr<storage::Storage> next, bool may_unmap)
      : ForwardingStorage(std::move(next)), may_unmap_(may_unmap) {}

  absl::Status Write(uint64_t offset_bytes, storage::ConstBytes data,
                     storage::WriteOptions options) override;
  absl::StatusOr<std::unique_ptr<storage::Placement>> PlaceRead(Range range) override;

 private:
  const bool may_unmap_;
};

// Any thread.
bool IsAllZero(storage::ConstBytes data);

}  // namespace tidemark::graph

#endif  // ENGINE_GRAPH_DETECT_ZEROES_H_
