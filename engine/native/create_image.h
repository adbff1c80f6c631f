// The work of blockdev-create: makes a file, or puts an empty image into a node.
#ifndef ENGINE_NATIVE_CREATE_IMAGE_H_
#define ENGINE_NATIVE_CREATE_IMAGE_H_

#include <atomic>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "engine/base/path_policy.h"
#include "engine/native/engine.h"
#include "engine/storage/file_storage.h"
#include "tidemark/block/v1/blockdev_create.pb.h"

namespace tidemark::native {

// Blocks: a worker, not the graph-command worker, to which it hops for the node. Fails soon after
// `cancelled` has become true.
absl::Status CreateImage(Engine& engine, const block::v1::BlockdevCreateOptions& options,
                         const std::atomic<bool>& cancelled);

// Makes the file `path` hold `size_bytes` zeroes, if the policy allows it to be touched at all.
// Blocks, until `cancelled` (may be null) becomes true.
absl::Status CreateImageFile(const PathPolicy& policy, const std::string& path, uint64_t size_bytes,
                             storage::Preallocation preallocation,
                             const std::atomic<bool>* cancelled = nullptr);

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_CREATE_IMAGE_H_
