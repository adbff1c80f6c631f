#include "engine/graph/detect_zeroes.h"

#include <cstring>

namespace tidemark::graph {

bool IsAllZero(storage::ConstBytes data) {
  // The first bytes are zero, and every byte equals one before it. The early look keeps ordinary
  // data from being read twice.
  const size_t head = std::min<size_t>(data.size(), 16);
  for (size_t i = 0; i < head; ++i) {
    if (data[i] != std::byte{0}) return false;
  }
  return data.size() <= head ||
         std::memcmp(data.data(), data.data() + head, data.size() - head) == 0;
}

absl::Status DetectZeroesStorage::Write(uint64_t offset_bytes, storage::ConstBytes data,
                                        storage::WriteOptions options) {
  if (data.empty() || !IsAllZero(data)) return next().Write(offset_bytes, data, options);
  return next().WriteZeroes({offset_bytes, data.size()},
                            {.may_unmap = may_unmap_,
                             .unchanged = options.unchanged,
                             .only_unallocated = options.only_unallocated});
}

absl::StatusOr<std::unique_ptr<storage::Placement>> DetectZeroesStorage::PlaceRead(Range range) {
  return next().PlaceRead(range);
}

}  // namespace tidemark::graph
