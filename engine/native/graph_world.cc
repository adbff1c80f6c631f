#include "engine/native/graph_world.h"

#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/native/command_keys.h"
#include "engine/native/drivers/file_driver.h"

namespace tidemark::native {
namespace {

bool IsFile(const graph::Node& node) {
  return dynamic_cast<const FileDriver*>(&node.driver()) != nullptr;
}

}  // namespace

void GraphWorld::BeginLook() {
  parts_.clear();
  has_files_ = false;
  nodes_by_file_.clear();
}

std::vector<const graph::Node*> GraphWorld::NodesOf(const OrderKey& key) {
  switch (key.kind) {
    case OrderKey::Kind::kNode: {
      std::vector<const graph::Node*> part = graph_.PartOf(key.name);
      if (part.size() > 1) part.resize(1);
      return part;
    }
    case OrderKey::Kind::kFile:
      if (!std::exchange(has_files_, true)) {
        for (const graph::Node* node : graph_.AllNodes()) {
          if (IsFile(*node)) nodes_by_file_[FileKeyOf(node->driver().filename())].push_back(node);
        }
      }
      return nodes_by_file_[key.name];
    case OrderKey::Kind::kExport:
      return exports_.NodesOf(key.name);
    case OrderKey::Kind::kServer:
      // Whoever stops the server ends every export.
      return key.shared ? std::vector<const graph::Node*>() : exports_.AllNodes();
    case OrderKey::Kind::kJob:
      break;
  }
  return {};
}

const std::string& GraphWorld::PartOf(const graph::Node* node) {
  const auto found = parts_.find(node);
  if (found != parts_.end()) return found->second;
  // By address: one that is being closed may have the name of another.
  const std::string part = absl::StrCat("part ", absl::Hex(reinterpret_cast<uintptr_t>(node)));
  for (const graph::Node* member : graph_.PartOf(node)) parts_[member] = part;
  return parts_[node];
}

void GraphWorld::AddParts(const OrderKey& key, std::vector<std::string>* parts) {
  const std::vector<const graph::Node*> nodes = NodesOf(key);
  for (const graph::Node* node : nodes) parts->push_back(PartOf(node));
  // What a node is called matters only until it exists.
  if (key.kind == OrderKey::Kind::kNode && !nodes.empty()) return;
  parts->push_back(absl::StrCat("name ", static_cast<int>(key.kind), " ", key.name));
}

void GraphWorld::AddPlaces(const OrderKey& key, absl::flat_hash_set<std::string>* places) {
  if (key.kind == OrderKey::Kind::kFile) places->insert(places_.PlaceOf(key.name));
  for (const graph::Node* node : NodesOf(key)) {
    for (const graph::Node* member : graph_.PartOf(node)) {
      if (IsFile(*member)) places->insert(places_.PlaceOf(member->driver().filename()));
    }
  }
}

}  // namespace tidemark::native
