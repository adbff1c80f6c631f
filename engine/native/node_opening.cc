#include "engine/native/node_opening.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/native/node_closing.h"
#include "engine/native/opener.h"

namespace tidemark::native {
namespace {

// Who a child is attached for, until the node above it exists.
std::string UserNamed(const std::string& node_name) {
  return node_name.empty() ? "an unnamed node" : absl::StrCat("node '", node_name, "'");
}

}  // namespace

NodeOpening::NodeOpening(Opener* opener, const Inherited& above, const graph::NodeOptions& options)
    : opener_(*opener), inherited_(above) {
  inherited_.discard_unmaps = true;
  inherited_.read_only = options.read_only;
  inherited_.auto_read_only = options.auto_read_only;
  inherited_.force_share = options.force_share;
  inherited_.cache_direct = options.cache_direct;
  inherited_.cache_no_flush = options.cache_no_flush;
  ++inherited_.depth;
}

NodeOpening::~NodeOpening() {
  if (children_.empty()) return;
  std::reverse(children_.begin(), children_.end());
  // What was just opened has nothing to lose.
  DetachAndClose(opener_.threads_, opener_.graph_, children_).IgnoreError();
}

storage::FileSystem& NodeOpening::files() const { return opener_.files_; }
OpenFiles& NodeOpening::open_files() const { return opener_.open_files_; }
Threads& NodeOpening::threads() const { return opener_.threads_; }

absl::StatusOr<graph::Edge*> NodeOpening::Attach(const block::v1::BlockdevRef& reference,
                                                 const std::string& node_name,
                                                 absl::string_view role,
                                                 const graph::Permissions& permissions,
                                                 const Inherited& inherited) {
  graph::AttachRequest request{
      .user = UserNamed(node_name), .role = std::string(role), .permissions = permissions};
  ASSIGN_OR_RETURN(graph::Edge* const edge,
                   opener_.AttachChild(reference, std::move(request), inherited));
  children_.push_back(edge);
  return edge;
}

std::string NodeOpening::FilenameOf(const graph::Edge& child) const {
  return opener_.threads_.OnEngine(
      [&] { return child.child()->WithoutJobFilters()->driver().filename(); });
}

absl::StatusOr<block::v1::BlockdevOptions> NodeOpening::BackingOptions(
    const std::string& backing_file, const absl::optional<std::string>& format,
    const std::string& image_file) const {
  return opener_.BackingOptions(backing_file, format, image_file);
}

absl::StatusOr<graph::Node*> NodeOpening::Add(graph::NodeSpec spec) {
  ASSIGN_OR_RETURN(graph::Node* const node, opener_.Add(std::move(spec)));
  children_.clear();
  return node;
}

}  // namespace tidemark::native
