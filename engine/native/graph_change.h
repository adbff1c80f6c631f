// A change of the graph with the image locks that follow from it: the engine thread changes the
// graph, the calling graph-command worker waits for the disks.
#ifndef ENGINE_NATIVE_GRAPH_CHANGE_H_
#define ENGINE_NATIVE_GRAPH_CHANGE_H_

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "engine/graph/graph.h"
#include "engine/native/threads.h"

namespace tidemark::native {

// Runs `change` on the engine thread, and then takes the image locks that it asks for. If one is
// refused, `undo` runs on the engine thread, and that refusal is the result; if `change` is, there
// is nothing to undo. Blocks.
inline absl::Status ChangeGraph(Threads& threads, graph::Graph& graph,
                                absl::FunctionRef<absl::Status()> change,
                                absl::FunctionRef<void()> undo) {
  graph::LockChanges locks;
  absl::Status status = threads.OnEngine([&] {
    absl::Status changed = change();
    locks = graph.TakeLockChanges();
    return changed;
  });
  const absl::Status locked = locks.Apply();
  // Whatever a refused change has told drivers on its way, it has told them back.
  if (!status.ok() || locked.ok()) return status;
  locks = threads.OnEngine([&] {
    undo();
    return graph.TakeLockChanges();
  });
  locks.Apply().IgnoreError();
  return locked;
}

// The same for a change that asks for nothing new: a lock that cannot be loosened stays too strict,
// and no harm is done.
inline void ChangeGraph(Threads& threads, graph::Graph& graph, absl::FunctionRef<void()> change) {
  const graph::LockChanges locks = threads.OnEngine([&] {
    change();
    return graph.TakeLockChanges();
  });
  locks.Apply().IgnoreError();
}

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_GRAPH_CHANGE_H_
