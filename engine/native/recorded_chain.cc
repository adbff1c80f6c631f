#include "engine/native/recorded_chain.h"

#include <memory>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/native/chain.h"
#include "engine/native/drivers/driver_table.h"
#include "engine/native/drivers/file_driver.h"
#include "engine/native/drivers/qcow2_driver.h"
#include "engine/native/opener.h"

namespace tidemark::native {
namespace {

// The file that holds the node's bytes, if it is one of the machine's and nothing is between.
FileDriver* FileOf(const graph::Node& node) {
  const graph::Node* const child = node.ChildInRole(graph::kRoleFile);
  return dynamic_cast<FileDriver*>(
      &(child == nullptr ? node : *child->WithoutJobFilters()).driver());
}

}  // namespace

absl::StatusOr<RecordedChain> RecordedChain::Of(const graph::Node& node,
                                                absl::string_view attempted) {
  RecordedChain chain;
  chain.attempted_ = std::string(attempted);
  for (const graph::Node* image = node.WithoutJobFilters(); image != nullptr;) {
    RETURN_IF_ERROR(chain.Add(*image));
    image = image->backing() == nullptr ? nullptr : image->backing()->WithoutJobFilters();
  }
  return chain;
}

absl::Status RecordedChain::Refuse(const graph::Node& node, absl::string_view why) const {
  return Error(Reason::kNodeLacksFeature,
               absl::StrCat(attempted_, ": the name of a backing file would stand for node '",
                            node.name(), "', but ", why),
               {{"node", node.name()}});
}

absl::Status RecordedChain::RefuseLink(const std::string& overlay,
                                       const std::string& backing) const {
  return Error(Reason::kInvalidCombination,
               absl::StrCat(attempted_, ": the image of node '", overlay,
                            "' does not record what it is open above, ",
                            backing.empty() ? "nothing" : absl::StrCat("node '", backing, "'"),
                            "; say so with change-backing-file first"),
               {{"node", overlay}});
}

absl::Status RecordedChain::Add(const graph::Node& node) {
  const std::string driver(node.driver().name());
  const DriverRow* const row = FindDriver(driver);
  FileDriver* const file = FileOf(node);
  if (row == nullptr || row->over_path == nullptr || file == nullptr) {
    return Refuse(node, absl::StrCat("that is no file (driver ", driver, ")"));
  }
  if (row->has_backing) return AddBacking(node, file->filename());
  if (&node.driver() == file || node.driver().is_filter()) return absl::OkStatus();
  return Refuse(node, "that shows a part of the file only");
}

absl::Status RecordedChain::AddBacking(const graph::Node& node, const std::string& filename) {
  auto* const driver = dynamic_cast<Qcow2Driver*>(&node.driver());
  if (driver == nullptr) return absl::OkStatus();
  const qcow2::Header header = driver->image().header();
  const graph::Node* const backing =
      node.backing() == nullptr ? nullptr : node.backing()->WithoutJobFilters();
  const std::string backing_name = backing == nullptr ? "" : backing->name();
  if (header.backing_file.empty() != (backing == nullptr)) {
    return RefuseLink(node.name(), backing_name);
  }
  if (backing == nullptr) return absl::OkStatus();
  const absl::StatusOr<std::string> recorded = ResolveBackingFile(header.backing_file, filename);
  FileDriver* const file = FileOf(*backing);
  const bool same_format =
      !header.backing_format.has_value() || *header.backing_format == backing->driver().name();
  if (!recorded.ok() || file == nullptr || !same_format) {
    return RefuseLink(node.name(), backing_name);
  }
  if (AbsolutePath(*recorded) != AbsolutePath(file->filename())) {
    unclear_.push_back({node.name(), backing_name, *recorded, file->identity()});
  }
  return absl::OkStatus();
}

absl::Status RecordedChain::CheckFiles(Engine& engine) const {
  for (const Link& link : unclear_) {
    const absl::StatusOr<std::shared_ptr<storage::File>> file = engine.files->Open(
        link.recorded_path, {.read_only = true, .locking = storage::FileOptions::Locking::kOff});
    if (!file.ok() || !((*file)->identity() == link.opened_file)) {
      return RefuseLink(link.overlay, link.backing);
    }
  }
  return absl::OkStatus();
}

}  // namespace tidemark::native
