// The graph, the exports and the mounts of this machine, as the order of commands sees them.
#ifndef ENGINE_NATIVE_GRAPH_WORLD_H_
#define ENGINE_NATIVE_GRAPH_WORLD_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "engine/base/file_places.h"
#include "engine/graph/graph.h"
#include "engine/native/exports.h"
#include "engine/native/order_book.h"

namespace tidemark::native {

// Engine thread. What it points to must outlive it.
class GraphWorld final : public OrderBook::World {
 public:
  // `roots`: see FilePlaces.
  GraphWorld(const graph::Graph* graph, const Exports* exports, std::vector<std::string> roots)
      : graph_(*graph), exports_(*exports), places_(std::move(roots)) {}

  void BeginLook() override;
  void AddParts(const OrderKey& key, std::vector<std::string>* parts) override;
  void AddPlaces(const OrderKey& key, absl::flat_hash_set<std::string>* places) override;

 private:
  // The nodes that the key leads to; more of their part need not be among them.
  std::vector<const graph::Node*> NodesOf(const OrderKey& key);
  // One name for all nodes of a part.
  const std::string& PartOf(const graph::Node* node);

  const graph::Graph& graph_;
  const Exports& exports_;
  FilePlaces places_;

  // What this look has found out.
  absl::flat_hash_map<const graph::Node*, std::string> parts_;
  bool has_files_ = false;
  absl::flat_hash_map<std::string, std::vector<const graph::Node*>> nodes_by_file_;
};

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_GRAPH_WORLD_H_
