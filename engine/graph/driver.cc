#include "engine/graph/driver.h"

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"

namespace tidemark::graph {

absl::Status Driver::CheckStorable(absl::string_view node_name,
                                   absl::Span<const BitmapShape> bitmaps, uint64_t) {
  if (bitmaps.empty()) return absl::OkStatus();
  const std::string& bitmap_name = bitmaps.back().name;
  return Error(Reason::kNodeLacksFeature,
               absl::StrCat("cannot make bitmap '", bitmap_name, "' persistent: driver '", name(),
                            "' of node '", node_name, "' does not store bitmaps"),
               {{"node", node_name}, {"bitmap", bitmap_name}});
}

}  // namespace tidemark::graph
