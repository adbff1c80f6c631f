#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/format/qcow2/header.h"
#include "engine/native/drivers/openings.h"
#include "engine/native/drivers/qcow2_driver.h"
#include "engine/native/opener.h"
#include "engine/native/option_checks.h"

namespace tidemark::native {
namespace {

using block::v1::BlockdevOptions;
using block::v1::BlockdevOptionsQcow2;
using block::v1::BlockdevRef;

// What a format needs of its file from the first look at it; the graph says it more precisely
// later.
graph::Permissions FormatFilePermissions(bool read_only) {
  return {.used = read_only ? storage::kPermissionConsistentRead
                            : storage::kPermissionConsistentRead | storage::kPermissionWrite |
                                  storage::kPermissionResize,
          .shared = storage::kPermissionConsistentRead | storage::kPermissionWriteUnchanged};
}

// The overlay has no users yet, so nobody minds that a guest goes on writing beneath it.
graph::Permissions BackingPermissions() {
  return {.used = storage::kPermissionConsistentRead, .shared = storage::kPermissionAll};
}

// The backing disk of the image just opened; null if it has none.
absl::StatusOr<graph::Edge*> AttachBacking(NodeOpening& opening,
                                           const BlockdevOptionsQcow2& options,
                                           const graph::NodeSpec& spec,
                                           const std::string& image_file) {
  Inherited inherited = opening.inherited();
  inherited.discard_unmaps = false;
  inherited.read_only = true;
  inherited.auto_read_only = false;
  BlockdevRef reference;
  switch (options.backing().node_case()) {
    case block::v1::BlockdevRefOrNull::kNone:
      return nullptr;
    case block::v1::BlockdevRefOrNull::kReference:
      reference.set_reference(options.backing().reference());
      break;
    case block::v1::BlockdevRefOrNull::kDefinition:
      *reference.mutable_definition() = options.backing().definition();
      break;
    case block::v1::BlockdevRefOrNull::NODE_NOT_SET: {
      const qcow2::Header header = static_cast<Qcow2Driver&>(*spec.driver).image().header();
      if (header.backing_file.empty()) return nullptr;
      inherited.chain_files.insert(image_file);
      ASSIGN_OR_RETURN(
          *reference.mutable_definition(),
          opening.BackingOptions(header.backing_file, header.backing_format, image_file));
      ASSIGN_OR_RETURN(const std::string path, ResolveBackingFile(header.backing_file, image_file));
      if (!inherited.chain_files.insert(path).second) {
        return Error(
            Reason::kImageCorrupt,
            absl::StrCat("the backing chain of \"", image_file, "\" comes back to \"", path, "\""),
            {{"file", path}});
      }
      break;
    }
  }
  absl::StatusOr<graph::Edge*> edge =
      opening.Attach(reference, spec.name, graph::kRoleBacking, BackingPermissions(), inherited);
  if (edge.ok()) return edge;
  return HasReason(edge.status(), Reason::kLimitReached)
             // Of a chain that is too deep, each link would add its name.
             ? edge.status()
             : Annotate(edge.status(),
                        absl::StrCat("cannot open the backing image of \"", image_file, "\""));
}

// The end of opening: the image is open, its backing disk and the node are still to come.
absl::StatusOr<graph::Node*> AddOverBacking(NodeOpening& opening,
                                            const BlockdevOptionsQcow2& options,
                                            graph::NodeSpec spec) {
  Qcow2Driver& driver = static_cast<Qcow2Driver&>(*spec.driver);
  RETURN_IF_ERROR(
      CheckCaches(options, spec.name, driver.image().header().geometry.cluster_bytes()));
  ASSIGN_OR_RETURN(graph::Edge* const backing,
                   AttachBacking(opening, options, spec, driver.filename()));
  if (backing != nullptr) {
    driver.image().SetBacking(backing->port());
    spec.children.push_back(
        {.edge = backing, .role = graph::kRoleBacking, .policy = graph::ChildPolicy::kBacking});
  }
  return opening.Add(std::move(spec));
}

}  // namespace

absl::StatusOr<graph::Node*> OpenQcow2(NodeOpening& opening, const BlockdevOptions& options,
                                       graph::NodeSpec spec) {
  const BlockdevOptionsQcow2& qcow2 = options.qcow2();
  ASSIGN_OR_RETURN(
      graph::Edge* const file,
      opening.Attach(qcow2.file(), spec.name, graph::kRoleFile,
                     FormatFilePermissions(spec.options.read_only), opening.inherited()));
  qcow2::OpenOptions open_options;
  open_options.read_only = spec.options.read_only;
  open_options.discard_unmaps = qcow2.has_pass_discard_request()
                                    ? qcow2.pass_discard_request()
                                    : spec.options.discard == graph::DiscardMode::kUnmap;
  if (qcow2.has_l2_cache_size()) open_options.l2_cache_bytes = qcow2.l2_cache_size();
  if (qcow2.has_cache_size()) {
    open_options.l2_cache_bytes =
        std::min<uint64_t>(open_options.l2_cache_bytes, qcow2.cache_size());
  }
  ASSIGN_OR_RETURN(std::shared_ptr<Qcow2Driver> driver,
                   Qcow2Driver::Open(file->port(), opening.FilenameOf(*file), open_options));
  spec.children.push_back(
      {.edge = file, .role = graph::kRoleFile, .policy = graph::ChildPolicy::kFormatFile});
  spec.driver = driver;
  spec.bitmaps = driver->TakeLoadedBitmaps();
  const std::vector<graph::StoredBitmap> bitmaps = spec.bitmaps;
  absl::StatusOr<graph::Node*> node = AddOverBacking(opening, qcow2, std::move(spec));
  if (!node.ok()) {
    // Opening has marked the bitmaps in the image as in use: a refusal must not cost them. What the
    // caller is told is why the image was refused.
    if (const absl::Status closed = driver->Close(bitmaps); !closed.ok()) {
      return Annotate(node.status(), absl::StrCat("not opened, and not all of it could be saved (",
                                                  std::string(closed.message()), ")"));
    }
  }
  return node;
}

const BlockdevRef* FileOfQcow2(const BlockdevOptions& options) {
  return options.qcow2().has_file() ? &options.qcow2().file() : nullptr;
}

BlockdevOptions Qcow2OverPath(const std::string& path) {
  BlockdevOptions options;
  *options.mutable_qcow2()->mutable_file()->mutable_definition() = FileOverPath(path);
  return options;
}

}  // namespace tidemark::native
