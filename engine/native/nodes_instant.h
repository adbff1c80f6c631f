// The point in time of a transaction: no request of a guest is in flight above the nodes named.
#ifndef ENGINE_NATIVE_NODES_INSTANT_H_
#define ENGINE_NATIVE_NODES_INSTANT_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/graph/quiesce.h"
#include "engine/native/engine.h"
#include "engine/native/limits.h"
#include "engine/transaction/transaction.h"

namespace tidemark::native {

// Names that are unknown are left to the actions to refuse. A graph-command worker.
class NodesInstant final : public transaction::Instant {
 public:
  NodesInstant(Engine* engine, std::vector<std::string> node_names)
      : engine_(*engine), node_names_(std::move(node_names)) {}

  void Begin() override {
    const std::vector<std::shared_ptr<graph::Port>> ports = engine_.threads.OnEngine([this] {
      std::vector<graph::Node*> nodes;
      for (const std::string& name : node_names_) {
        const absl::StatusOr<graph::Node*> node = engine_.graph.Find(name);
        if (node.ok()) nodes.push_back(*node);
      }
      return engine_.graph.PortsAbove(nodes);
    });
    quiesce_.AddPatiently(ports, kInstantPatience);
  }
  void End() override { quiesce_.Open(); }

 private:
  Engine& engine_;
  const std::vector<std::string> node_names_;
  graph::Quiesce quiesce_;
};

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_NODES_INSTANT_H_
