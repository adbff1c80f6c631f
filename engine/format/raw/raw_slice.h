// A window on another storage: what the raw driver's `offset` and `size` show of its file. Without
// a window it is the whole file, and grows and shrinks with it. Any thread.
#ifndef ENGINE_FORMAT_RAW_RAW_SLICE_H_
#define ENGINE_FORMAT_RAW_RAW_SLICE_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "engine/storage/storage.h"

namespace tidemark::raw {

struct SliceOptions {
  uint64_t offset_bytes = 0;
  // Absent: to the end of the file.
  absl::optional<uint64_t> size_bytes;
};

// kInvalidArgument: the window is not within the file, or not aligned as the file's requests must
// be.
absl::StatusOr<std::unique_ptr<storage::Storage>> OpenSlice(std::shared_ptr<storage::Storage> file,
                                                            SliceOptions options);

}  // namespace tidemark::raw

#endif  // ENGINE_FORMAT_RAW_RAW_SLICE_H_
