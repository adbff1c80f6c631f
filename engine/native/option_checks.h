// Which options of a node go together. Plain functions; any thread.
#ifndef ENGINE_NATIVE_OPTION_CHECKS_H_
#define ENGINE_NATIVE_OPTION_CHECKS_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "engine/graph/graph.h"
#include "tidemark/block/v1/blockdev_options.pb.h"

namespace tidemark::native {

// INVALID_COMBINATION naming node, fields and values. `spec` holds what the options come to with
// what is inherited from the node above.
absl::Status CheckOptions(const graph::NodeSpec& spec, const block::v1::BlockdevOptions& options);

// The sizes of caches, as QEMU takes and refuses them, of an image with clusters of
// `cluster_bytes`. INVALID_COMBINATION or INVALID_FIELD.
absl::Status CheckCaches(const block::v1::BlockdevOptionsQcow2& options, const std::string& node,
                         uint64_t cluster_bytes);

// INVALID_FIELD for a size that a client chooses and that is no multiple of a sector.
absl::Status CheckWholeSectors(const std::string& node, uint64_t size_bytes);

// LIMIT_REACHED: the node that `options` describe would be at `depth` below the one asked for.
absl::Status TooDeepError(const block::v1::BlockdevOptions& options, int depth);

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_OPTION_CHECKS_H_
