// The work of blockdev-create: makes a file, or puts an empty image into a node.
#ifndef ENGINE_NATIVE_JOBS_CREATE_IMAGE_H_
#define ENGINE_NATIVE_JOBS_CREATE_IMAGE_H_

#include <atomic>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/graph/node.h"
#include "engine/native/engine.h"
#include "tidemark/block/v1/blockdev_create.pb.h"
#include "tidemark/block/v1/blockdev_options.pb.h"

namespace tidemark::native {

// Blocks: a worker, but no graph-command worker, to which it hops for the node. Fails soon after
// `cancelled` has become true.
absl::Status CreateImage(Engine& engine, const block::v1::BlockdevCreateOptions& options,
                         const std::atomic<bool>& cancelled);

// Sees to it that the file `path` is there: makes an empty one, or leaves what is there as it is.
// Blocks.
absl::Status EnsureImageFile(Engine& engine, const std::string& path);

// Puts an empty image into the file `path`, which is made if need be: what `create` writes.
// Attached first, so that what is in the way of that, and whoever has the file open, is known
// before anything in it is touched. `user` and `attempted` are for errors: "drive-backup", "cannot
// back up to
// \"/a.raw\"". Graph-command worker.
absl::Status CreateImageAt(Engine& engine, const std::string& path, const std::string& user,
                           absl::string_view attempted,
                           absl::FunctionRef<absl::Status(storage::Storage&)> create);

// Opens an image for the engine itself that nobody else has open; `attempted` as above.
// Graph-command worker.
absl::StatusOr<graph::Node*> OpenAlone(Engine& engine, const block::v1::BlockdevOptions& options,
                                       absl::string_view attempted);

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
