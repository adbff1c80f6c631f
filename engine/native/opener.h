// Opens block nodes: what blockdev-add, backing chains recorded in images, and the targets of
// drive-backup come to.
//
// Each node is added to the graph as soon as it is open, hidden, and shown when the node above it
// is: so image locks are held before an image is read, and what is opened twice is refused at once.
#ifndef ENGINE_NATIVE_OPENER_H_
#define ENGINE_NATIVE_OPENER_H_

#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/base/path_policy.h"
#include "engine/graph/graph.h"
#include "engine/native/format_choice.h"
#include "engine/native/open_files.h"
#include "engine/native/threads.h"
#include "engine/storage/file.h"
#include "tidemark/block/v1/blockdev_options.pb.h"

namespace tidemark::native {

// Graph-command worker. What it points to must outlive it.
class Opener {
 public:
  Opener(Threads* threads, graph::Graph* graph, const PathPolicy* policy,
         storage::FileSystem* files, OpenFiles* open_files, ProbeRules rules)
      : threads_(*threads),
        graph_(*graph),
        policy_(*policy),
        files_(*files),
        open_files_(*open_files),
        rules_(rules) {}

  // Opens the node that `options` describe, with its children; `ownership` is that of the topmost
  // node. After a refusal nothing is left open.
  absl::StatusOr<graph::Node*> Open(const block::v1::BlockdevOptions& options,
                                    graph::Ownership ownership);

  // Opens or finds what `reference` says, and attaches `request` to it.
  absl::StatusOr<graph::Edge*> OpenAndAttach(const block::v1::BlockdevRef& reference,
                                             graph::AttachRequest request);

  // The driver for a file whose format the request does not say (format_choice.h).
  absl::StatusOr<std::string> ChooseFormat(const std::string& path,
                                           absl::string_view remedy) const {
    return native::ChooseFormat(files_, rules_, path, remedy);
  }

 private:
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
  // The children of a node under construction, not yet taken over by it. Detaches what is left.
  class Children;

  static Inherited Below(const Inherited& above, const graph::NodeOptions& options);
  absl::StatusOr<graph::Node*> OpenNode(const block::v1::BlockdevOptions& options,
                                        graph::Ownership ownership, bool hidden,
                                        const Inherited& inherited);
  absl::StatusOr<graph::Node*> OpenFileNode(const block::v1::BlockdevOptions& options,
                                            graph::NodeSpec spec);
  absl::StatusOr<graph::Node*> OpenRawNode(const block::v1::BlockdevOptions& options,
                                           graph::NodeSpec spec, const Inherited& inherited);
  absl::StatusOr<graph::Node*> OpenQcow2Node(const block::v1::BlockdevOptions& options,
                                             graph::NodeSpec spec, const Inherited& inherited);
  // The end of OpenQcow2Node: the image is open, its backing disk and the node are still to come.
  absl::StatusOr<graph::Node*> AddOverBacking(const block::v1::BlockdevOptionsQcow2& options,
                                              graph::NodeSpec spec, const Inherited& inherited,
                                              Children* children);
  absl::StatusOr<graph::Node*> OpenNullNode(const block::v1::BlockdevOptions& options,
                                            graph::NodeSpec spec);

  absl::StatusOr<graph::Edge*> AttachChild(const block::v1::BlockdevRef& reference,
                                           const std::string& user, absl::string_view role,
                                           const graph::Permissions& permissions,
                                           const Inherited& inherited);
  // The backing disk of the image just opened; null if it has none.
  absl::StatusOr<graph::Edge*> AttachBacking(const block::v1::BlockdevOptionsQcow2& options,
                                             const graph::NodeSpec& spec,
                                             const std::string& image_file,
                                             const Inherited& inherited);
  // The options by which the header's backing file is opened.
  absl::StatusOr<block::v1::BlockdevOptions> BackingOptions(
      const std::string& backing_file, const absl::optional<std::string>& format,
      const std::string& image_file);
  absl::StatusOr<graph::Node*> Add(graph::NodeSpec spec);

  Threads& threads_;
  graph::Graph& graph_;
  const PathPolicy& policy_;
  storage::FileSystem& files_;
  OpenFiles& open_files_;
  const ProbeRules rules_;
};

// The name of `backing_file` as recorded in the image `image_file`: a relative name counts from
// that image's folder. FEATURE_UNSUPPORTED for what is no plain path ("json:", "nbd:").
absl::StatusOr<std::string> ResolveBackingFile(const std::string& backing_file,
                                               const std::string& image_file);

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_OPENER_H_
