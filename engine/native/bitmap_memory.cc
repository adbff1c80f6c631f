#include "engine/native/bitmap_memory.h"

#include <cstdint>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "engine/base/error.h"

namespace tidemark::native {
namespace {

uint64_t BitmapBytes(const graph::Graph& graph) {
  uint64_t bytes = 0;
  for (const graph::Node* node : graph.AllNodes()) bytes += node->bitmaps().memory_bytes();
  return bytes;
}

bool OthersCount(const graph::Graph& graph) {
  return absl::c_any_of(graph.AllNodes(),
                        [](const graph::Node* node) { return node->bitmaps().counts_others(); });
}

}  // namespace

absl::Status CheckMemoryForBitmap(const Engine& engine, const std::string& node,
                                  const std::string& bitmap) {
  const uint64_t bytes = BitmapBytes(engine.graph);
  if (bytes < engine.budgets.bitmap_bytes_max) return absl::OkStatus();
  return Error(Reason::kLimitReached,
               absl::StrCat("cannot add bitmap '", bitmap, "' to node '", node,
                            "': the bitmaps of all nodes take ", bytes,
                            " bytes of memory, and none is added beyond ",
                            engine.budgets.bitmap_bytes_max, " (a quarter of --memory_max)"),
               {{"node", node}, {"bitmap", bitmap}});
}

absl::Status CountBits(const Engine& engine, graph::Node* node, const std::string& job_id,
                       const void* owner, std::function<uint64_t()> bytes) {
  const uint64_t needed_bytes = bytes();
  const uint64_t bitmap_bytes = BitmapBytes(engine.graph);
  if (bitmap_bytes + needed_bytes > engine.budgets.bitmap_bytes_max && OthersCount(engine.graph)) {
    return Error(Reason::kLimitReached,
                 absl::StrCat("cannot begin job '", job_id, "' on node '", node->name(),
                              "' beside others: to know what is still to be copied it needs ",
                              needed_bytes, " bytes of memory, the bitmaps of all nodes take ",
                              bitmap_bytes, ", and all together may take ",
                              engine.budgets.bitmap_bytes_max, " (a quarter of --memory_max)"),
                 {{"node", node->name()}, {"job", job_id}});
  }
  node->bitmaps().CountAlso(owner, std::move(bytes));
  return absl::OkStatus();
}

}  // namespace tidemark::native
