// The image locks of a job's target, taken ahead of the instant: at that guests would wait for its
// disk. Graph-command worker.
#ifndef ENGINE_NATIVE_JOBS_TARGET_RESERVATION_H_
#define ENGINE_NATIVE_JOBS_TARGET_RESERVATION_H_

#include <string>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "engine/base/status_macros.h"
#include "engine/graph/graph.h"
#include "engine/native/engine.h"
#include "engine/native/graph_change.h"
#include "engine/native/node_closing.h"

namespace tidemark::native {

// How the job of that user uses its target.
inline graph::AttachRequest UseAsTarget(std::string user) {
  return {.user = std::move(user),
          .role = graph::kRoleTarget,
          // Shared for writing, because the source may be among its backing images; not for
          // resizing. Who uses the target itself is refused by what the job forbids.
          .permissions = {.used = storage::kPermissionWrite,
                          .shared = storage::kPermissionAll & ~storage::kPermissionResize},
          // A guest may wait for it.
          .gated = false};
}

class TargetReservation {
 public:
  explicit TargetReservation(Engine* engine) : engine_(*engine) {}
  ~TargetReservation() {
    if (edge_ == nullptr) return;
    DetachAndClose(engine_.threads, engine_.graph, {edge_}).IgnoreError();
  }
  TargetReservation(const TargetReservation&) = delete;
  TargetReservation& operator=(const TargetReservation&) = delete;

  // `find` runs on the engine thread. What is refused here is refused again when all else has been
  // looked at, which says why.
  void Take(absl::FunctionRef<absl::StatusOr<graph::Node*>()> find, graph::AttachRequest use) {
    ChangeGraph(
        engine_.threads, engine_.graph,
        [&]() -> absl::Status {
          ASSIGN_OR_RETURN(graph::Node* const node, find());
          ASSIGN_OR_RETURN(edge_, engine_.graph.Attach(node, std::move(use)));
          return absl::OkStatus();
        },
        [this] { engine_.graph.Detach(std::exchange(edge_, nullptr)); })
        .IgnoreError();
  }

 private:
  Engine& engine_;
  graph::Edge* edge_ = nullptr;
};

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_JOBS_TARGET_RESERVATION_H_
