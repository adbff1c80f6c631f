#include "engine/graph/node.h"

#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"

namespace tidemark::graph {

Node::Node(std::string name, std::shared_ptr<Driver> driver, const NodeOptions& options,
           Ownership ownership, bool hidden, bool is_job_filter)
    : name_(std::move(name)),
      is_job_filter_(is_job_filter),
      tracked_(std::make_shared<TrackedBitmaps>()),
      shared_reads_(std::make_shared<SharedReads>()),
      driver_(std::move(driver)),
      options_(options),
      storage_(MakeStorage()),
      ownership_(ownership),
      hidden_(hidden),
      bitmaps_(name_, is_opened_read_only(), driver_.get(), tracked_) {}

std::shared_ptr<storage::Storage> Node::MakeStorage() const {
  return std::make_shared<SharedReadsStorage>(
      WithOptions(driver_->storage(), name_, options_, tracked_), shared_reads_);
}

void Node::SetBody(std::shared_ptr<Driver> driver, const NodeOptions& options) {
  driver_ = std::move(driver);
  options_ = options;
  storage_ = MakeStorage();
  bitmaps_.ChangeDriver(driver_.get(), is_opened_read_only());
}

Node* Node::ChildInRole(absl::string_view role) const {
  for (const Edge* edge : children_) {
    if (edge->role() == role) return edge->child();
  }
  return nullptr;
}

Node* Node::filtered() const { return driver_->is_filter() ? ChildInRole(kRoleFile) : nullptr; }

const Node* Node::WithoutJobFilters() const {
  const Node* node = this;
  while (node->is_job_filter() && node->filtered() != nullptr) node = node->filtered();
  return node;
}

int Node::backing_depth() const {
  int depth = 0;
  for (const Node* node = WithoutJobFilters()->backing(); node != nullptr;
       node = node->WithoutJobFilters()->backing()) {
    ++depth;
  }
  return depth;
}

bool Node::Reaches(const Node* other) const {
  // Each node once: where two ways lead to every node, there are more ways than can be walked.
  absl::flat_hash_set<const Node*> seen = {this};
  std::vector<const Node*> waiting = {this};
  while (!waiting.empty()) {
    const Node* const node = waiting.back();
    waiting.pop_back();
    if (node == other) return true;
    for (const Edge* edge : node->children_) {
      if (seen.insert(edge->child()).second) waiting.push_back(edge->child());
    }
  }
  return false;
}

}  // namespace tidemark::graph
