// Which ports to close for a moment in which nothing happens to some nodes.
#include <functional>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "engine/graph/graph.h"

namespace tidemark::graph {

std::vector<std::shared_ptr<Port>> Graph::PortsAbove(absl::Span<Node* const> nodes) const {
  std::vector<std::shared_ptr<Port>> ports;
  absl::flat_hash_set<const Node*> seen(nodes.begin(), nodes.end());
  std::vector<const Node*> waiting(seen.begin(), seen.end());
  while (!waiting.empty()) {
    const Node* node = waiting.back();
    waiting.pop_back();
    for (const Edge* edge : node->parents_) {
      if (edge->parent_ == nullptr) {
        if (edge->gated_) ports.push_back(edge->port_);
      } else if (seen.insert(edge->parent_).second) {
        waiting.push_back(edge->parent_);
      }
    }
  }
  return ports;
}

std::vector<std::shared_ptr<Port>> Graph::AllPortsAbove(absl::Span<Node* const> nodes) const {
  std::vector<std::shared_ptr<Port>> users;
  std::vector<std::shared_ptr<Port>> between;
  absl::flat_hash_set<const Node*> seen;
  const std::function<void(const Node*)> visit = [&](const Node* node) {
    if (!seen.insert(node).second) return;
    for (const Edge* edge : node->parents_) {
      if (edge->parent_ != nullptr) visit(edge->parent_);
    }
    // All above it has been visited.
    for (const Edge* edge : node->parents_) {
      (edge->parent_ == nullptr ? users : between).push_back(edge->port_);
    }
  };
  for (const Node* node : nodes) visit(node);
  users.insert(users.end(), between.begin(), between.end());
  return users;
}

}  // namespace tidemark::graph
