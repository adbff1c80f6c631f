// The work of blockdev-create: makes a file, or puts an empty image into a node.
#ifndef ENGINE_NATIVE_JOBS_CREATE_IMAGE_H_
#define ENGINE_NATIVE_JOBS_CREATE_IMAGE_H_

#include <atomic>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "engine/graph/node.h"
#include "engine/native/engine.h"
#include "tidemark/block/v1/blockdev_create.pb.h"

namespace tidemark::native {

// Blocks: a worker, not the graph-command worker, to which it hops for the node. Fails soon after
// `cancelled` has become true.
absl::Status CreateImage(Engine& engine, const block::v1::BlockdevCreateOptions& options,
                         const std::atomic<bool>& cancelled);

// Sees to it that the file `path` is there: makes an empty one, or leaves what is there as it is.
// Blocks.
absl::Status EnsureImageFile(Engine& engine, const std::string& path);

// What a raw image is made of: `size_bytes` zeroes, durable. Blocks.
absl::Status CreateRawImage(storage::Storage& file, uint64_t size_bytes,
                            storage::Preallocation preallocation);

// Whether the file may be emptied: IMAGE_LOCKED, naming node and file, if a node has it open but
// for `own`, which may be null. `attempted` as "cannot create \"/a.raw\"". Engine thread.
absl::Status CheckFileUnused(const Engine& engine, const storage::FileIdentity& identity,
                             const OpenFiles::Use* own, absl::string_view attempted);

// Whether what is written into `node` destroys nobody's disk: no others use it or the nodes below
// it, and no other node has its file open. NODE_BUSY, IMAGE_LOCKED; both name the node that stands
// in the way. `own`: the edge of who asks; may be null. Engine thread.
absl::Status CheckAlone(const Engine& engine, const graph::Node& node, const graph::Edge* own,
                        absl::string_view attempted);

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_JOBS_CREATE_IMAGE_H_
