// Opens block nodes: what blockdev-add, backing chains recorded in images, and the targets of
// drive-backup come to.
//
// Each node is added to the graph as soon as it is open, hidden, and shown when the node above it
// is: so image locks are held before an image is read, and what is opened twice is refused at once.
#ifndef ENGINE_NATIVE_OPENER_H_
#define ENGINE_NATIVE_OPENER_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/base/lookup_pool.h"
#include "engine/base/path_policy.h"
#include "engine/graph/graph.h"
#include "engine/native/format_choice.h"
#include "engine/native/node_opening.h"
#include "engine/native/open_files.h"
#include "engine/native/threads.h"
#include "engine/storage/file.h"
#include "tidemark/block/v1/blockdev_options.pb.h"

namespace tidemark::native {

// Graph-command worker. What it points to must outlive it.
class Opener {
 public:
  // `lookups` may be null: then names that images tell are looked up by whoever opens the image.
  Opener(Threads* threads, graph::Graph* graph, const PathPolicy* policy, LookupPool* lookups,
         storage::FileSystem* files, OpenFiles* open_files, ProbeRules rules)
      : threads_(*threads),
        graph_(*graph),
        policy_(*policy),
        lookups_(lookups),
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
  friend class NodeOpening;

  absl::StatusOr<graph::Node*> OpenNode(const block::v1::BlockdevOptions& options,
                                        graph::Ownership ownership, bool hidden,
                                        const Inherited& inherited);
  absl::StatusOr<graph::Edge*> AttachChild(const block::v1::BlockdevRef& reference,
                                           graph::AttachRequest request,
                                           const Inherited& inherited);
  // The options by which the header's backing file is opened.
  absl::StatusOr<block::v1::BlockdevOptions> BackingOptions(
      const std::string& backing_file, const absl::optional<std::string>& format,
      const std::string& image_file);
  // Whether the file `path`, which an image named and no request, may be opened, and answers. A
  // command counts as busy with the disks that its request names: one that hangs elsewhere must not
  // keep their turns.
  absl::Status LookAtFound(const std::string& path) const;
  absl::StatusOr<graph::Node*> Add(graph::NodeSpec spec);

  Threads& threads_;
  graph::Graph& graph_;
  const PathPolicy& policy_;
  LookupPool* const lookups_;
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
