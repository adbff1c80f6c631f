// The images of a backing chain, as commands name them. Engine thread.
#ifndef ENGINE_NATIVE_CHAIN_H_
#define ENGINE_NATIVE_CHAIN_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/graph/graph.h"

namespace tidemark::native {

// The image of `node` and all that are below it as backing images, top first. What jobs have put
// between them is passed by.
std::vector<graph::Node*> ChainOf(graph::Node* node);

// The place in `chain` of the image that is opened as `path` (however that is written), or that the
// image above it records by this name; 0 is not looked at. INVALID_COMBINATION if there is none.
absl::StatusOr<size_t> FindFileInChain(absl::Span<graph::Node* const> chain,
                                       const std::string& path);

// The place of the node of that name, or below whose filters of jobs it is. NODE_NOT_FOUND,
// INVALID_COMBINATION if it is not in the chain.
absl::StatusOr<size_t> FindNodeInChain(const graph::Graph& graph,
                                       absl::Span<graph::Node* const> chain,
                                       const std::string& name);

// The name as it stands for the file wherever an image that records it lies; no disk is asked. As
// it is if this process has no folder any more. Any thread.
std::string AbsolutePath(const std::string& path);

// The name and the format by which an image above would record the node as its backing file; the
// name is empty for what is no file.
struct RecordedBacking {
  std::string filename;
  std::string format;
};
RecordedBacking RecordedBackingOf(const graph::Node& node);

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_CHAIN_H_
