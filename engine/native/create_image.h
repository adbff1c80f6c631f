// The work of blockdev-create: makes a file, or puts an empty image into a node.
#ifndef ENGINE_NATIVE_CREATE_IMAGE_H_
#define ENGINE_NATIVE_CREATE_IMAGE_H_

#include <atomic>

#include "absl/status/status.h"
#include "engine/native/engine.h"
#include "tidemark/block/v1/blockdev_create.pb.h"

namespace tidemark::native {

// Blocks: a worker, not the graph-command worker, to which it hops for the node. Fails soon after
// `cancelled` has become true.
absl::Status CreateImage(Engine& engine, const block::v1::BlockdevCreateOptions& options,
                         const std::atomic<bool>& cancelled);

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_CREATE_IMAGE_H_
