// Metadata contexts: the kinds of facts about a disk that a client can ask for with
// NBD_CMD_BLOCK_STATUS, and their names. Plain values; any thread.
#ifndef ENGINE_NBD_CONTEXT_H_
#define ENGINE_NBD_CONTEXT_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/nbd/export.h"

namespace tidemark::nbd {

struct Context {
  enum class Kind {
    kAllocation,  // base:allocation
    kDepth,       // qemu:allocation-depth
    kBitmap,      // qemu:dirty-bitmap:<name>
  };
  Kind kind = Kind::kAllocation;
  size_t bitmap_index = 0;  // In Export::bitmaps, for kBitmap.

  // What replies call it; never 0. The same for every client of an export.
  uint32_t id() const {
    return static_cast<uint32_t>(kind) + 1 + static_cast<uint32_t>(bitmap_index);
  }

  friend bool operator==(const Context&, const Context&) = default;
};

// All that the export offers.
std::vector<Context> AllContexts(const Export& exported);

std::string NameOf(const Export& exported, const Context& context);

// Those that `query` selects. Wildcards ("base:", "qemu:", "qemu:dirty-bitmap:") select only if
// `lists`: the protocol has them for listing alone. Unknown names select nothing.
std::vector<Context> MatchingContexts(const Export& exported, absl::string_view query, bool lists);

}  // namespace tidemark::nbd

#endif  // ENGINE_NBD_CONTEXT_H_
