// Answers about what a range of a disk holds, as NBD_CMD_BLOCK_STATUS wants them: per context a
// list of lengths with flags. Blocks on the storage; any thread.
#ifndef ENGINE_NBD_BLOCK_STATUS_H_
#define ENGINE_NBD_BLOCK_STATUS_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/base/range.h"
#include "engine/nbd/client_presence.h"
#include "engine/nbd/context.h"
#include "engine/nbd/export.h"

namespace tidemark::nbd {

struct StatusExtent {
  uint32_t length_bytes = 0;
  uint32_t flags = 0;
};

// What the beginning of `range` (not empty, within the disk, under 4 GiB) holds in the terms of
// `context`: neighbours differ in flags, no extent reaches past the range, at most `extents_max` of
// them (at least 1). CANCELLED once the client has left.
absl::StatusOr<std::vector<StatusExtent>> StatusOf(const Export& exported, const Context& context,
                                                   Range range, size_t extents_max,
                                                   ClientPresence& client);

}  // namespace tidemark::nbd

#endif  // ENGINE_NBD_BLOCK_STATUS_H_
