// The end of nodes that were taken out of the graph.
#ifndef ENGINE_NATIVE_NODE_CLOSING_H_
#define ENGINE_NATIVE_NODE_CLOSING_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "engine/graph/graph.h"
#include "engine/native/graph_change.h"
#include "engine/native/threads.h"

namespace tidemark::native {

// Closes the nodes and lets go of what they used; the first error. Blocks: a graph-command worker.
inline absl::Status CloseNodes(Threads& threads, graph::Graph& graph, graph::RemovedNodes removed) {
  if (removed.empty()) return absl::OkStatus();
  const absl::Status status = removed.Close();
  ChangeGraph(threads, graph, [&] { graph.Unlink(&removed); });
  return status;
}

// Detaches, and closes the nodes that nobody but these users kept. Blocks: a graph-command worker.
inline absl::Status DetachAndClose(Threads& threads, graph::Graph& graph,
                                   absl::Span<graph::Edge* const> edges) {
  graph::RemovedNodes orphans;
  ChangeGraph(threads, graph, [&] {
    for (graph::Edge* edge : edges) graph.Detach(edge);
    orphans = graph.TakeOrphans();
  });
  return CloseNodes(threads, graph, std::move(orphans));
}

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_NODE_CLOSING_H_
