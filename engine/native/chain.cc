#include "engine/native/chain.h"

#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/native/drivers/driver_table.h"
#include "engine/native/drivers/qcow2_driver.h"

namespace tidemark::native {
namespace {

graph::Node* WithoutJobFilters(graph::Node* node) {
  while (node->is_job_filter()) node = node->filtered();
  return node;
}

}  // namespace

std::string AbsolutePath(const std::string& path) {
  std::error_code error;
  const std::filesystem::path absolute = std::filesystem::absolute(path, error);
  return error ? path : absolute.lexically_normal().string();
}

std::vector<graph::Node*> ChainOf(graph::Node* node) {
  std::vector<graph::Node*> chain;
  for (; node != nullptr; node = chain.back()->backing()) chain.push_back(WithoutJobFilters(node));
  return chain;
}

absl::StatusOr<size_t> FindFileInChain(absl::Span<graph::Node* const> chain,
                                       const std::string& path) {
  for (size_t i = 1; i < chain.size(); ++i) {
    auto* const above = dynamic_cast<Qcow2Driver*>(&chain[i - 1]->driver());
    const std::string filename = chain[i]->driver().filename();
    if (filename.empty()) continue;
    if (filename == path || AbsolutePath(filename) == AbsolutePath(path)) return i;
    if (above != nullptr && above->image().header().backing_file == path) return i;
  }
  return Error(Reason::kInvalidCombination,
               absl::StrCat("there is no \"", path, "\" in the backing chain of node '",
                            chain[0]->name(), "'"),
               {{"filename", path}, {"node", chain[0]->name()}});
}

absl::StatusOr<size_t> FindNodeInChain(const graph::Graph& graph,
                                       absl::Span<graph::Node* const> chain,
                                       const std::string& name) {
  ASSIGN_OR_RETURN(graph::Node* const node, graph.Find(name));
  for (size_t i = 0; i < chain.size(); ++i) {
    if (chain[i] == WithoutJobFilters(node)) return i;
  }
  return Error(Reason::kInvalidCombination,
               absl::StrCat("node '", name, "' is not in the backing chain of node '",
                            chain[0]->name(), "'"),
               {{"node", name}, {"device", chain[0]->name()}});
}

RecordedBacking RecordedBackingOf(const graph::Node& node) {
  const graph::Node& image = *node.WithoutJobFilters();
  RecordedBacking recorded;
  recorded.format = std::string(image.driver().name());
  const DriverRow* const row = FindDriver(recorded.format);
  if (row != nullptr && row->over_path != nullptr) {
    recorded.filename = AbsolutePath(image.driver().filename());
  }
  return recorded;
}

}  // namespace tidemark::native
