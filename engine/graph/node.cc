#include "engine/graph/node.h"

#include <utility>

namespace tidemark::graph {

Node::Node(std::string name, std::shared_ptr<Driver> driver, const NodeOptions& options,
           Ownership ownership, bool hidden)
    : name_(std::move(name)),
      driver_(std::move(driver)),
      options_(options),
      tracked_(std::make_shared<TrackedBitmaps>()),
      shared_reads_(std::make_shared<SharedReads>()),
      storage_(std::make_shared<SharedReadsStorage>(
          WithOptions(driver_->storage(), name_, options_, tracked_), shared_reads_)),
      ownership_(ownership),
      hidden_(hidden),
      bitmaps_(name_, read_only(), driver_.get(), tracked_) {}

Node* Node::ChildInRole(absl::string_view role) const {
  for (const Edge* edge : children_) {
    if (edge->role() == role) return edge->child();
  }
  return nullptr;
}

Node* Node::filtered() const {
  for (const Edge* edge : children_) {
    if (edge->policy() == ChildPolicy::kCopyBeforeWrite) return edge->child();
  }
  return nullptr;
}

const Node* Node::WithoutFilters() const {
  const Node* node = this;
  while (node->filtered() != nullptr) node = node->filtered();
  return node;
}

int Node::backing_depth() const {
  int depth = 0;
  for (const Node* node = WithoutFilters()->backing(); node != nullptr;
       node = node->WithoutFilters()->backing()) {
    ++depth;
  }
  return depth;
}

bool Node::Reaches(const Node* other) const {
  if (this == other) return true;
  for (const Edge* edge : children_) {
    if (edge->child()->Reaches(other)) return true;
  }
  return false;
}

}  // namespace tidemark::graph
