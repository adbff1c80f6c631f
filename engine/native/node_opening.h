// One node on its way into the graph: what its driver is given to open it with. Its children are
// attached one by one, and detached again if the node does not come to be.
//
// Graph-command worker, as long as the node is being opened.
#ifndef ENGINE_NATIVE_NODE_OPENING_H_
#define ENGINE_NATIVE_NODE_OPENING_H_

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "engine/graph/graph.h"
#include "engine/native/open_files.h"
#include "engine/native/threads.h"
#include "engine/storage/file.h"
#include "tidemark/block/v1/blockdev_options.pb.h"

namespace tidemark::native {

class Opener;

// What an inline child takes over from the node above where its own options are silent.
struct Inherited {
  // Above the child `file` of a format: discards are the format's decision.
  bool discard_unmaps = false;
  bool read_only = false;
  bool auto_read_only = false;
  bool force_share = false;
  bool cache_direct = false;
  bool cache_no_flush = false;
  int depth = 0;
  // The files of the backing chain so far: a chain that comes back to one of them is a loop.
  std::set<std::string> chain_files;
};

class NodeOpening {
 public:
  // `above` is what the node itself was given from above; `options` are what it made of that.
  NodeOpening(Opener* opener, const Inherited& above, const graph::NodeOptions& options);
  // Detaches the children that no node has taken over.
  ~NodeOpening();
  NodeOpening(const NodeOpening&) = delete;
  NodeOpening& operator=(const NodeOpening&) = delete;

  // What the child `file` takes over from this node; other children may change a copy of it.
  const Inherited& inherited() const { return inherited_; }
  storage::FileSystem& files() const;
  OpenFiles& open_files() const;
  Threads& threads() const;

  // Opens or finds what `reference` says and attaches it as the `role` of the node called
  // `node_name` (may be empty).
  absl::StatusOr<graph::Edge*> Attach(const block::v1::BlockdevRef& reference,
                                      const std::string& node_name, absl::string_view role,
                                      const graph::Permissions& permissions,
                                      const Inherited& inherited);

  // What queries call the bytes below `child`.
  std::string FilenameOf(const graph::Edge& child) const;

  // The options by which the backing file is opened that the header of `image_file` names.
  absl::StatusOr<block::v1::BlockdevOptions> BackingOptions(
      const std::string& backing_file, const absl::optional<std::string>& format,
      const std::string& image_file) const;

  // Adds the node, which takes over its children. Once, last.
  absl::StatusOr<graph::Node*> Add(graph::NodeSpec spec);

 private:
  Opener& opener_;
  Inherited inherited_;
  std::vector<graph::Edge*> children_;
};

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_NODE_OPENING_H_
