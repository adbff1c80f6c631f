// Permissions flow from users down to files. An update works out those of every node and edge below
// the change first, checks them all, tells the drivers, and only then writes them down; so a
// refusal at any point leaves the graph as it was. What drivers do about it that may wait (image
// locks) comes afterwards, on a worker: Graph::TakeLockChanges.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/graph/node.h"

namespace tidemark::graph {

class PermissionUpdate {
 public:
  explicit PermissionUpdate(absl::Span<Node* const> changed) {
    for (Node* node : changed) Visit(node);
    std::reverse(order_.begin(), order_.end());
  }

  absl::Status Run() {
    for (Node* node : order_) RETURN_IF_ERROR(WorkOut(node));
    RETURN_IF_ERROR(TellDrivers());
    for (const auto& [node, permissions] : nodes_) node->permissions_ = permissions;
    for (const auto& [edge, permissions] : edges_) edge->permissions_ = permissions;
    return absl::OkStatus();
  }

 private:
  // Children first; the reverse is an order in which users come before what they use.
  void Visit(Node* node) {
    if (!seen_.insert(node).second) return;
    for (const Edge* edge : node->children()) Visit(edge->child());
    order_.push_back(node);
  }

  Permissions PermissionsOf(const Edge* edge) const {
    const auto found = edges_.find(edge);
    if (found != edges_.end()) return found->second;
    return edge->parent() == nullptr ? edge->fixed_ : edge->permissions_;
  }

  absl::Status WorkOut(Node* node) {
    Permissions joined;
    bool agree = true;
    for (Edge* edge : node->parents()) {
      const Permissions permissions = PermissionsOf(edge);
      edges_[edge] = permissions;
      RETURN_IF_ERROR(CheckReadOnly(*node, *edge, permissions));
      agree = agree && (permissions.used & ~joined.shared) == 0 &&
              (joined.used & ~permissions.shared) == 0;
      joined.used |= permissions.used;
      joined.shared &= permissions.shared;
    }
    if (!agree) return Conflict(*node);
    nodes_[node] = joined;
    for (Edge* edge : node->children()) {
      Permissions permissions = ChildPermissions(edge->policy_, joined, !node->parents().empty(),
                                                 node->is_opened_read_only(), edge->fixed_);
      if (edge->child()->options().force_share) permissions.shared = storage::kPermissionAll;
      edges_[edge] = permissions;
    }
    return absl::OkStatus();
  }

  absl::Status Conflict(const Node& node) const {
    std::vector<PermissionUser> users;
    for (const Edge* edge : node.parents())
      users.push_back({edge->Describe(), PermissionsOf(edge)});
    return CheckAgreement(node.name(), users);
  }

  static absl::Status CheckReadOnly(const Node& node, const Edge& edge,
                                    const Permissions& permissions) {
    constexpr PermissionSet kChanges =
        storage::kPermissionWrite | storage::kPermissionWriteUnchanged | storage::kPermissionResize;
    if (!node.read_only() || (permissions.used & kChanges) == 0) return absl::OkStatus();
    return Error(
        Reason::kNodeReadOnly,
        absl::StrCat("node '", node.name(), "' is read-only, but ", edge.Describe(), " needs '",
                     storage::NamesOfPermissions(permissions.used & kChanges), "' on it"),
        {{"node", node.name()}, {"user", edge.User()}});
  }

  absl::Status TellDrivers() {
    std::vector<Node*> told;
    for (Node* node : order_) {
      if (nodes_[node] == node->permissions_) continue;
      absl::Status status = node->driver().SetPermissions(nodes_[node]);
      node->told_->push_back({node->driver_, node->name_});
      if (!status.ok()) {
        for (Node* earlier : told) {
          // Going back to what it held must work; if the lock was lost meanwhile, nothing is left
          // to do about it here.
          (void)earlier->driver().SetPermissions(earlier->permissions_);
        }
        return Annotate(status, absl::StrCat("node '", node->name(), "'"));
      }
      told.push_back(node);
    }
    return absl::OkStatus();
  }

  absl::flat_hash_set<const Node*> seen_;
  std::vector<Node*> order_;
  absl::flat_hash_map<Node*, Permissions> nodes_;
  absl::flat_hash_map<Edge*, Permissions> edges_;
};

absl::Status UpdatePermissions(absl::Span<Node* const> changed) {
  return PermissionUpdate(changed).Run();
}

}  // namespace tidemark::graph
