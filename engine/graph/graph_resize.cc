// Disks that change their size: who is asked, who waits meanwhile, and whose bitmaps follow.
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/graph/graph.h"

namespace tidemark::graph {
namespace {

// What a resize of `node` goes through on its way down; null if the node has a size of its own.
Node* ResizedThrough(const Node& node) {
  for (const Edge* edge : node.children()) {
    switch (edge->policy()) {
      case ChildPolicy::kFilter:
      case ChildPolicy::kWindow:
      case ChildPolicy::kCopyBeforeWrite:
        return edge->child();
      case ChildPolicy::kFixed:
      case ChildPolicy::kFormatFile:
      case ChildPolicy::kBacking:
        break;
    }
  }
  return nullptr;
}

// Whether the parent's size is the child's. (A window on the child lets nobody else change it.)
bool ShowsWholeDisk(const Edge& edge) {
  return edge.policy() == ChildPolicy::kFilter || edge.policy() == ChildPolicy::kCopyBeforeWrite;
}

absl::Status CheckNoOverlay(const Node& node) {
  for (const Edge* edge : node.parents()) {
    if (edge->policy() != ChildPolicy::kBacking) continue;
    return Error(
        Reason::kNodeBusy,
        absl::StrCat("node '", node.name(), "' is in use as the backing image of ", edge->User()),
        {{"node", node.name()}});
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<Node*> Graph::NodesOfOneSize(Node* node) {
  std::vector<Node*> nodes;
  absl::flat_hash_set<const Node*> seen;
  for (Node* below = node; below != nullptr; below = ResizedThrough(*below)) {
    nodes.push_back(below);
    seen.insert(below);
  }
  for (size_t i = 0; i < nodes.size(); ++i) {
    for (const Edge* edge : std::vector<Edge*>(nodes[i]->parents())) {
      if (edge->parent() != nullptr && ShowsWholeDisk(*edge) &&
          seen.insert(edge->parent()).second) {
        nodes.push_back(edge->parent());
      }
    }
  }
  return nodes;
}

absl::StatusOr<Edge*> Graph::BeginResize(Node* node, uint64_t size_bytes) {
  RETURN_IF_ERROR(CheckNotBlocked(*node, Operation::kResize));
  const uint64_t size_before_bytes = node->storage()->size_bytes();
  for (const Node* changed : NodesOfOneSize(node)) {
    RETURN_IF_ERROR(CheckNoOverlay(*changed));
    // The file of a window is larger than it by what is before the window.
    const uint64_t surplus_bytes = changed->storage()->size_bytes() - size_before_bytes;
    RETURN_IF_ERROR(changed->bitmaps().CheckResize(size_bytes + surplus_bytes));
  }
  return Attach(node, {.user = "block_resize",
                       .permissions = {.used = storage::kPermissionResize},
                       .gated = false});
}

std::vector<std::shared_ptr<Port>> Graph::PortsToResize(Node* node) const {
  return PortsAbove(NodesOfOneSize(node));
}

void Graph::EndResize(Edge* edge) {
  for (Node* changed : NodesOfOneSize(edge->child())) changed->bitmaps().FollowDisk();
  Detach(edge);
}

}  // namespace tidemark::graph
