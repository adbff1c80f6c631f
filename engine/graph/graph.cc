#include "engine/graph/graph.h"

#include <algorithm>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/graph/limits.h"

namespace tidemark::graph {
namespace {

bool IsWellFormed(absl::string_view name) {
  return !name.empty() && absl::ascii_isalpha(name[0]) && absl::c_all_of(name, [](char c) {
    return absl::ascii_isalnum(c) || c == '-' || c == '.' || c == '_';
  });
}

absl::Status Busy(const Node& node, absl::string_view why) {
  return Error(Reason::kNodeBusy, absl::StrCat("node '", node.name(), "' is ", why),
               {{"node", node.name()}});
}

}  // namespace

// ---- Names ----

absl::Status Graph::CheckNewName(absl::string_view name) const {
  if (name.size() > kNodeNameLengthMax) {
    return Error(
        Reason::kInvalidField,
        absl::StrCat("node name '", name, "' is longer than ", kNodeNameLengthMax, " characters"),
        {{"node", name}});
  }
  if (!IsWellFormed(name)) {
    return Error(Reason::kInvalidField,
                 absl::StrCat("node name '", name,
                              "' is not a letter followed by letters, digits, '-', '.' and '_'"),
                 {{"node", name}});
  }
  if (by_name_.contains(name)) {
    return Error(Reason::kNodeExists, absl::StrCat("there is a node named '", name, "' already"),
                 {{"node", name}});
  }
  return absl::OkStatus();
}

std::string Graph::GenerateName() {
  std::string name;
  do {
    name = absl::StrCat("#block", next_generated_name_++);
  } while (by_name_.contains(name));
  return name;
}

absl::StatusOr<Node*> Graph::Find(absl::string_view name) const {
  const auto found = by_name_.find(name);
  if (found != by_name_.end() && !found->second->hidden_) return found->second;
  return Error(Reason::kNodeNotFound, absl::StrCat("there is no node named '", name, "'"),
               {{"node", name}});
}

std::vector<Node*> Graph::ListNodes() const {
  std::vector<Node*> nodes;
  for (const auto& node : nodes_) {
    if (!node->hidden_) nodes.push_back(node.get());
  }
  return nodes;
}

// ---- Parts ----

std::vector<const Node*> Graph::PartOf(absl::string_view name) const {
  const auto found = by_name_.find(name);
  if (found != by_name_.end()) return PartOf(found->second);
  const auto closing =
      absl::c_find_if(closing_, [&](const Node* node) { return node->name_ == name; });
  if (closing != closing_.end()) return PartOf(*closing);
  return {};
}

std::vector<const Node*> Graph::PartOf(const Node* node) const {
  std::vector<const Node*> part = {node};
  absl::flat_hash_set<const Node*> seen = {node};
  for (size_t i = 0; i < part.size(); ++i) {
    const auto visit = [&](const Node* next) {
      if (next != nullptr && seen.insert(next).second) part.push_back(next);
    };
    const Node* const at = part[i];
    for (const Edge* edge : at->parents_) visit(edge->parent_);
    for (const Edge* edge : at->children_) visit(edge->child_);
  }
  return part;
}

std::vector<const Node*> Graph::ListAll() const {
  std::vector<const Node*> all;
  for (const auto& node : nodes_) all.push_back(node.get());
  return all;
}

std::vector<const Node*> Graph::AllNodes() const {
  std::vector<const Node*> all = ListAll();
  all.insert(all.end(), closing_.begin(), closing_.end());
  return all;
}

// ---- Adding ----

absl::StatusOr<Node*> Graph::AddNode(NodeSpec spec) {
  if (spec.name.empty()) {
    spec.name = GenerateName();
  } else {
    RETURN_IF_ERROR(CheckNewName(spec.name));
  }
  int depth = 1;
  for (const ChildSpec& child : spec.children) {
    depth = std::max(depth, child.edge->child_->depth_ + 1);
  }
  if (nodes_.size() >= kNodesMax) {
    return Error(Reason::kLimitReached,
                 absl::StrCat("cannot add node '", spec.name, "': there are ", nodes_.size(),
                              " nodes, and may be at most ", kNodesMax),
                 {{"node", spec.name}});
  }
  if (depth > kGraphDepthMax) return TooDeep(spec.name, depth, kGraphDepthMax);

  nodes_.emplace_front(new Node(spec.name, std::move(spec.driver), spec.options, spec.ownership,
                                spec.hidden, spec.is_job_filter));
  Node* node = nodes_.front().get();
  node->depth_ = depth;
  node->told_ = &told_;
  std::vector<Edge> before;
  std::vector<Node*> changed = {node};
  for (const ChildSpec& child : spec.children) {
    Edge* edge = child.edge;
    CHECK(edge->parent_ == nullptr);
    before.push_back(*edge);
    edge->parent_ = node;
    edge->role_ = child.role;
    edge->policy_ = child.policy;
    node->children_.push_back(edge);
    changed.push_back(edge->child_);
  }
  if (absl::Status status = UpdatePermissions(changed); !status.ok()) {
    for (size_t i = 0; i < before.size(); ++i) *spec.children[i].edge = before[i];
    nodes_.pop_front();
    return status;
  }
  by_name_[node->name_] = node;
  node->bitmaps_.Load(std::move(spec.bitmaps));
  if (!node->hidden_) Reveal(node);
  return node;
}

void Graph::TakeBack(Node* node) {
  CHECK(node->parents_.empty());
  std::vector<Node*> changed;
  for (Edge* edge : node->children_) {
    edge->parent_ = nullptr;
    edge->policy_ = ChildPolicy::kFixed;
    changed.push_back(edge->child_);
  }
  by_name_.erase(node->name_);
  nodes_.erase(absl::c_find_if(nodes_, [&](const auto& owned) { return owned.get() == node; }));
  // As before, which nobody minded.
  (void)UpdatePermissions(changed);
}

void Graph::Reveal(Node* node) {
  node->hidden_ = false;
  for (Edge* edge : node->children_) {
    if (edge->child_->hidden_) Reveal(edge->child_);
  }
}

// ---- Removing ----

absl::Status Graph::CheckDeletable(const Node& node) const {
  RETURN_IF_ERROR(CheckNotBlocked(node, Operation::kDelete));
  for (const Edge* edge : node.parents_) {
    if (edge->parent_ == nullptr) return Busy(node, absl::StrCat("in use by ", edge->User()));
  }
  for (const Edge* edge : node.parents_) {
    if (edge->policy_ == ChildPolicy::kBacking) {
      return Busy(node, absl::StrCat("in use as the backing image of ", edge->User()));
    }
  }
  if (node.ownership_ != Ownership::kMonitor) {
    return Error(Reason::kNodeNotOwned,
                 absl::StrCat("node '", node.name_,
                              "' was not added by blockdev-add: it goes with what it belongs to"),
                 {{"node", node.name_}});
  }
  if (!node.parents_.empty()) {
    return Busy(node, absl::StrCat("in use by ", node.parents_.front()->Describe()));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Node*>> Graph::NodesToDelete(absl::string_view name) const {
  ASSIGN_OR_RETURN(Node * node, Find(name));
  RETURN_IF_ERROR(CheckDeletable(*node));
  // As Extract will.
  std::vector<Node*> gone = {node};
  for (size_t i = 0; i < gone.size(); ++i) {
    for (const Edge* edge : gone[i]->children_) {
      Node* child = edge->child_;
      const bool needed = absl::c_any_of(child->parents_, [&](const Edge* parent) {
        return parent->parent_ == nullptr || !absl::c_linear_search(gone, parent->parent_);
      });
      if (child->ownership_ == Ownership::kParents && !needed &&
          !absl::c_linear_search(gone, child)) {
        gone.push_back(child);
      }
    }
  }
  return gone;
}

absl::StatusOr<RemovedNodes> Graph::DeleteNode(absl::string_view name) {
  ASSIGN_OR_RETURN(Node * node, Find(name));
  RETURN_IF_ERROR(CheckDeletable(*node));
  return RemoveNode(node);
}

RemovedNodes Graph::RemoveNode(Node* node) {
  CHECK(node->parents_.empty());
  RemovedNodes removed;
  Extract(node, &removed);
  return removed;
}

void Graph::Extract(Node* node, RemovedNodes* removed) {
  const auto found =
      absl::c_find_if(nodes_, [&](const auto& owned) { return owned.get() == node; });
  CHECK(found != nodes_.end());
  node->removed_ = true;
  closing_.push_back(node);
  by_name_.erase(node->name_);
  removed->nodes_.push_back(std::move(*found));
  nodes_.erase(found);
  for (Edge* edge : node->children_) {
    Node* child = edge->child_;
    const bool needed = absl::c_any_of(child->parents_, [](const Edge* parent) {
      return parent->parent_ == nullptr || !parent->parent_->removed_;
    });
    if (child->ownership_ == Ownership::kParents && !needed && !child->removed_) {
      Extract(child, removed);
    }
  }
}

RemovedNodes Graph::TakeOrphans() {
  RemovedNodes removed;
  while (true) {
    const auto found = absl::c_find_if(nodes_, [](const auto& node) {
      return node->ownership_ == Ownership::kParents && node->parents_.empty();
    });
    if (found == nodes_.end()) return removed;
    Extract(found->get(), &removed);
  }
}

RemovedNodes Graph::TakeAll() {
  std::vector<std::string> names;
  for (const auto& node : nodes_) names.push_back(node->name_);
  return TakePart(names);
}

RemovedNodes Graph::TakePart(absl::Span<const std::string> node_names) {
  std::vector<Node*> left;
  for (const std::string& name : node_names) {
    const auto found = by_name_.find(name);
    if (found == by_name_.end()) continue;
    left.push_back(found->second);
    for (Edge* edge : std::vector<Edge*>(found->second->parents_)) {
      if (edge->parent_ == nullptr) Erase(edge);
    }
  }
  RemovedNodes removed;
  while (!left.empty()) {
    const auto top = absl::c_find_if(left, [](const Node* node) {
      return absl::c_all_of(node->parents_,
                            [](const Edge* edge) { return edge->parent_->removed_; });
    });
    CHECK(top != left.end());  // No cycles.
    Extract(*top, &removed);
    std::erase_if(left, [](const Node* node) { return node->removed_; });
  }
  return removed;
}

void Graph::Unlink(RemovedNodes* removed) {
  std::vector<Node*> left;
  for (const auto& node : removed->nodes_) {
    for (Edge* edge : std::vector<Edge*>(node->children_)) {
      if (!edge->child_->removed_) left.push_back(edge->child_);
      Erase(edge);
    }
    closing_.erase(absl::c_find(closing_, node.get()));
  }
  // Fewer users never conflict. A lock that cannot be loosened stays too strict: no harm is done.
  (void)UpdatePermissions(left);
}

absl::Status RemovedNodes::Close() {
  absl::Status all;
  for (const auto& node : nodes_) {
    const absl::Status status = Annotate(node->driver_->Close(node->bitmaps_.Stored()),
                                         absl::StrCat("closing node '", node->name_, "'"));
    // Each is told: at a shutdown nobody can ask again.
    all = all.ok() || status.ok() ? (all.ok() ? status : all)
                                  : Annotate(all, absl::StrCat(status.message(), "; and"));
  }
  return all;
}

// ---- Users ----

Node* Graph::UnderJobFilters(Node* node) {
  for (;;) {
    const auto edge = absl::c_find_if(node->parents_, [](const Edge* above) {
      return above->parent_ != nullptr && above->parent_->is_job_filter_ &&
             above->policy_ == ChildPolicy::kFilter;
    });
    if (edge == node->parents_.end()) return node;
    node = (*edge)->parent_;
  }
}

absl::StatusOr<Edge*> Graph::Attach(Node* node, AttachRequest request) {
  // Who comes now is as one who was there when the filter was put in.
  if (request.gated) node = UnderJobFilters(node);
  std::unique_ptr<Edge> owned(new Edge);
  Edge* edge = owned.get();
  edge->child_ = node;
  edge->user_ = std::move(request.user);
  edge->role_ = std::move(request.role);
  edge->fixed_ = request.permissions;
  edge->gated_ = request.gated;
  edge->port_ = Port::Create(node->storage_);
  node->parents_.push_back(edge);
  if (absl::Status status = UpdatePermissions({node}); !status.ok()) {
    node->parents_.pop_back();
    return status;
  }
  edges_[edge] = std::move(owned);
  return edge;
}

void Graph::Detach(Edge* edge) {
  CHECK(edge->parent_ == nullptr);
  Node* node = edge->child_;
  Erase(edge);
  (void)UpdatePermissions({node});  // As in Unlink.
}

void Graph::Erase(Edge* edge) {
  const auto forget = [&](std::vector<Edge*>* list) {
    list->erase(std::remove(list->begin(), list->end(), edge), list->end());
  };
  forget(&edge->child_->parents_);
  if (edge->parent_ != nullptr) forget(&edge->parent_->children_);
  edges_.erase(edge);
}

LockChanges Graph::TakeLockChanges() { return LockChanges(std::exchange(told_, {})); }

absl::Status Graph::ChangePermissions(Edge* edge, const Permissions& permissions) {
  CHECK(edge->parent_ == nullptr);
  const Permissions before = std::exchange(edge->fixed_, permissions);
  absl::Status status = UpdatePermissions({edge->child_});
  if (!status.ok()) edge->fixed_ = before;
  return status;
}

// ---- What jobs forbid ----

uint64_t Graph::Block(Node* node, OperationSet operations, std::string reason) {
  node->blocks_.push_back({next_block_id_, operations, std::move(reason)});
  return next_block_id_++;
}

void Graph::Unblock(Node* node, uint64_t id) {
  const auto found =
      absl::c_find_if(node->blocks_, [&](const OperationBlock& block) { return block.id == id; });
  CHECK(found != node->blocks_.end());
  node->blocks_.erase(found);
}

absl::Status Graph::CheckNotBlocked(const Node& node, Operation operation) {
  for (const OperationBlock& block : node.blocks_) {
    if (block.operations.Contains(operation)) return Busy(node, block.reason);
  }
  return absl::OkStatus();
}

}  // namespace tidemark::graph
