#include "engine/native/freezing.h"

#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "engine/native/graph_change.h"

namespace tidemark::native {

void FinishFreezing(Engine& engine, graph::Node* node) {
  std::vector<graph::StoredBitmap> bitmaps;
  const bool is_wanted = engine.threads.OnEngine([&] {
    bitmaps = node->bitmaps().Stored();
    return node->read_only() && !node->is_opened_read_only() &&
           absl::c_none_of(node->bitmaps().List(), [](const graph::BitmapInfo& bitmap) {
             return bitmap.persistent && bitmap.busy;
           });
  });
  if (!is_wanted) return;
  graph::Driver& driver = node->driver();
  // What cannot be stored now may be when the node is closed.
  const bool has_bitmaps = !bitmaps.empty();
  if (has_bitmaps && !driver.StoreBitmaps(std::move(bitmaps)).ok()) return;
  absl::Status status = driver.storage()->Flush();
  if (status.ok()) {
    status = ChangeGraph(
        engine.threads, engine.graph, [&] { return engine.graph.SetReadOnly(node); },
        [] {});  // A lock that cannot be loosened stays too strict.
  }
  if (!status.ok() && has_bitmaps) driver.KeepUsingBitmaps().IgnoreError();
}

}  // namespace tidemark::native
