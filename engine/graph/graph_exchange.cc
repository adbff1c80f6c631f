// Users led from one node to another, and nodes that become others under their users.
//
// Everything is first done to the edges alone, then depths and permissions are worked out for what
// they are now; refused, the edges are put back. Only then ports are led elsewhere and drivers
// told, which cannot fail.
#include <algorithm>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/graph/graph.h"
#include "engine/graph/limits.h"
#include "engine/storage/null_storage.h"

namespace tidemark::graph {
namespace {

// Deeper than anything may be: filters of jobs are never refused for it.
constexpr int kAnyDepth = 10 * kGraphDepthMax;

void CheckClosed(absl::Span<const std::shared_ptr<Port>> ports) {
  for (const auto& port : ports) CHECK(port->closed());
}

}  // namespace

// ---- Depths ----

absl::Status Graph::TooDeep(absl::string_view name, int depth, int depth_max) {
  return Error(Reason::kLimitReached,
               absl::StrCat("node '", name, "' would have ", depth,
                            " nodes below one another; at most ", depth_max, " are allowed"),
               {{"node", name}, {"value", absl::StrCat(depth)}});
}

absl::Status Graph::UpdateDepths(absl::Span<Node* const> changed, int depth_max) {
  // Those above the changed ones, as far as their depth does not stand yet; the ones below first.
  absl::flat_hash_map<Node*, int> depths;
  std::vector<Node*> waiting(changed.begin(), changed.end());
  for (size_t step = 0; step < waiting.size(); ++step) {
    Node* const node = waiting[step];
    int depth = 1;
    for (const Edge* edge : node->children_) {
      const auto found = depths.find(edge->child_);
      depth = std::max(depth, 1 + (found == depths.end() ? edge->child_->depth_ : found->second));
    }
    const auto known = depths.find(node);
    if (depth == (known == depths.end() ? node->depth_ : known->second)) continue;
    if (depth > depth_max || step > size_t{kNodesMax} * kGraphDepthMax) {
      return TooDeep(node->name_, depth, depth_max);
    }
    depths[node] = depth;
    for (const Edge* edge : node->parents_) {
      if (edge->parent_ != nullptr) waiting.push_back(edge->parent_);
    }
  }
  for (const auto& [node, depth] : depths) node->depth_ = depth;
  return absl::OkStatus();
}

// ---- Users led elsewhere ----

void Graph::Move(Edge* edge, Node* child) {
  std::vector<Edge*>& parents = edge->child_->parents_;
  parents.erase(absl::c_find(parents, edge));
  edge->child_ = child;
  child->parents_.push_back(edge);
}

absl::Status Graph::Repoint(std::vector<Edge*> edges, Node* child, int depth_max) {
  if (edges.empty()) return absl::OkStatus();
  Node* const before = edges.front()->child_;
  std::vector<Node*> above;
  for (Edge* edge : edges) {
    Move(edge, child);
    if (edge->parent_ != nullptr) above.push_back(edge->parent_);
  }
  absl::Status status = UpdateDepths(above, depth_max);
  if (status.ok()) status = UpdatePermissions({before, child});
  if (!status.ok()) {
    for (Edge* edge : edges) Move(edge, before);
    UpdateDepths(above, kAnyDepth).IgnoreError();  // As they were.
    return status;
  }
  for (Edge* edge : edges) edge->port_->Retarget(child->storage_);
  return absl::OkStatus();
}

absl::Status Graph::InsertFilter(Node* filter, Node* below) {
  CHECK(filter->parents_.empty() && filter->filtered() == below);
  CheckClosed(PortsAbove({below}));
  std::vector<Edge*> edges;
  for (Edge* edge : below->parents_) {
    const bool moves = edge->parent_ == nullptr ? edge->gated_ : !filter->Reaches(edge->parent_);
    if (moves) edges.push_back(edge);
  }
  return Repoint(edges, filter, kAnyDepth);
}

absl::Status Graph::RemoveFilter(Node* filter) {
  Node* const below = filter->filtered();
  CHECK(below != nullptr);
  CheckClosed(PortsAbove({filter}));
  return Repoint(filter->parents_, below, kAnyDepth);
}

absl::Status Graph::Replace(Node* from, Node* to, absl::FunctionRef<bool(const Edge&)> moves) {
  CheckClosed(PortsAbove({from}));
  if (from == to) return absl::OkStatus();
  std::vector<Edge*> edges;
  for (Edge* edge : from->parents_) {
    if (!moves(*edge)) continue;
    if (edge->parent_ == nullptr) {
      CHECK(edge->port_->closed());
    } else if (to->Reaches(edge->parent_)) {
      return Error(
          Reason::kInvalidCombination,
          absl::StrCat("node '", to->name_, "' cannot take the place of node '", from->name_,
                       "' below node '", edge->parent_->name_, "': it is above that itself"),
          {{"node", to->name_}, {"replaced", from->name_}});
    }
    edges.push_back(edge);
  }
  return Repoint(edges, to, kGraphDepthMax);
}

// ---- Nodes that become others ----

absl::StatusOr<Change> Graph::ExchangeChildren(Node* node, std::vector<ChildSpec> children) {
  struct Saved {
    Edge* edge;
    Edge before;
  };
  std::vector<Saved> saved;
  std::vector<Node*> changed = {node};
  const std::vector<Edge*> children_before = node->children_;
  for (Edge* edge : children_before) {
    saved.push_back({edge, *edge});
    changed.push_back(edge->child_);
    // Not used any more, unless it is named again: it keeps what it has.
    edge->user_ = edge->User();
    edge->parent_ = nullptr;
    edge->policy_ = ChildPolicy::kFixed;
    edge->fixed_ = edge->permissions_;
    edge->gated_ = false;
  }
  node->children_.clear();
  for (const ChildSpec& child : children) {
    Edge* const edge = child.edge;
    if (!absl::c_linear_search(children_before, edge)) {
      CHECK(edge->parent_ == nullptr);
      saved.push_back({edge, *edge});
      changed.push_back(edge->child_);
    }
    edge->parent_ = node;
    edge->role_ = child.role;
    edge->policy_ = child.policy;
    node->children_.push_back(edge);
  }
  auto put_back = [node, saved, children_before, changed] {
    for (const Saved& edge : saved) *edge.edge = edge.before;
    node->children_ = children_before;
  };
  // Before anything walks down: with a loop no walk would end.
  for (const Edge* edge : node->children_) {
    if (!edge->child_->Reaches(node)) continue;
    absl::Status status =
        Error(Reason::kInvalidCombination,
              absl::StrCat("node '", node->name_, "' cannot use node '", edge->child_->name_,
                           "' as '", edge->role_, "': that uses it itself"),
              {{"node", node->name_}});
    put_back();
    return status;
  }
  absl::Status status = UpdateDepths({node}, kGraphDepthMax);
  if (status.ok()) status = UpdatePermissions(changed);
  if (!status.ok()) {
    put_back();
    UpdateDepths({node}, kAnyDepth).IgnoreError();  // As they were.
    return status;
  }
  std::vector<Edge*> let_go;
  for (Edge* edge : children_before) {
    if (edge->parent_ == nullptr) let_go.push_back(edge);
  }
  return Change{.commit =
                    [this, let_go] {
                      for (Edge* edge : let_go) Detach(edge);
                    },
                .undo =
                    [node, put_back, changed] {
                      put_back();
                      // What is given back was kept, or is in nobody else's hands yet.
                      UpdatePermissions(changed).IgnoreError();
                      UpdateDepths({node}, kAnyDepth).IgnoreError();
                    }};
}

absl::StatusOr<Change> Graph::Exchange(Node* node, NodeBody body) {
  CheckClosed(AllPortsAbove({node}));
  const auto lead_users_to_it = [](Node* to) {
    for (Edge* edge : to->parents_) edge->port_->Retarget(to->storage_);
  };
  std::shared_ptr<Driver> driver_before = node->driver_;
  const NodeOptions options_before = node->options_;
  // Permissions ask whether the node is read-only; the driver that is told of them is the new one.
  node->driver_ = body.driver;
  node->options_ = body.options;
  const Permissions permissions_before = std::exchange(node->permissions_, Permissions());
  absl::StatusOr<Change> change = ExchangeChildren(node, std::move(body.children));
  node->driver_ = driver_before;
  node->options_ = options_before;
  if (!change.ok()) {
    node->permissions_ = permissions_before;
    return change.status();
  }
  node->SetBody(std::move(body.driver), body.options);
  lead_users_to_it(node);
  return Change{.commit = std::move(change->commit),
                .undo = [node, driver_before, options_before, lead_users_to_it,
                         undo = std::move(change->undo)]() mutable {
                  node->SetBody(driver_before, options_before);
                  undo();
                  lead_users_to_it(node);
                }};
}

absl::Status Graph::Freeze(Node* node) {
  if (node->is_frozen_) return absl::OkStatus();
  node->is_frozen_ = true;
  absl::Status status = UpdatePermissions({node});
  if (!status.ok()) node->is_frozen_ = false;
  return status;
}

absl::Status Graph::SetReadOnly(Node* node) {
  if (node->options_.read_only) return absl::OkStatus();
  node->options_.read_only = true;
  absl::Status status = UpdatePermissions({node});
  if (!status.ok()) {
    node->options_.read_only = false;
    return status;
  }
  node->bitmaps_.ChangeDriver(node->driver_.get(), /*node_read_only=*/true);
  return absl::OkStatus();
}

absl::StatusOr<Change> Graph::SetBacking(Node* node, Edge* backing) {
  CheckClosed(AllPortsAbove({node}));
  std::vector<ChildSpec> children;
  std::shared_ptr<Port> port_before;
  for (Edge* edge : node->children_) {
    if (edge->policy_ == ChildPolicy::kBacking) {
      port_before = edge->port_;
    } else {
      children.push_back({edge, edge->role_, edge->policy_});
    }
  }
  if (backing != nullptr) children.push_back({backing, kRoleBacking, ChildPolicy::kBacking});
  ASSIGN_OR_RETURN(Change change, ExchangeChildren(node, std::move(children)));
  node->driver_->SetBacking(backing == nullptr ? nullptr : backing->port_);
  return Change{.commit = std::move(change.commit),
                .undo = [node, port_before, undo = std::move(change.undo)]() mutable {
                  node->driver_->SetBacking(port_before);
                  undo();
                }};
}

std::shared_ptr<Port> Graph::BackingPort(const Node& node) {
  for (const Edge* edge : node.children_) {
    if (edge->policy_ == ChildPolicy::kBacking) return edge->port_;
  }
  return nullptr;
}

absl::Status Graph::ShortenBacking(Node* node, Node* to) {
  const auto is_backing = [](const Edge* edge) { return edge->policy_ == ChildPolicy::kBacking; };
  const auto found = absl::c_find_if(node->children_, is_backing);
  CHECK(found != node->children_.end());
  Edge* const edge = *found;
  CHECK(edge->port_->closed() && (to == nullptr || edge->child_->Reaches(to)));
  if (to == edge->child_) return absl::OkStatus();
  if (to != nullptr) return Repoint({edge}, to, kAnyDepth);
  std::vector<ChildSpec> others;
  for (Edge* other : node->children_) {
    if (other != edge) others.push_back({other, other->role_, other->policy_});
  }
  const std::shared_ptr<Port> port = edge->port_;
  ASSIGN_OR_RETURN(Change change, ExchangeChildren(node, std::move(others)));
  port->Retarget(std::make_shared<storage::NullStorage>(0));
  node->driver_->ForgetBacking();
  change.commit();
  return absl::OkStatus();
}

}  // namespace tidemark::graph
