#include <memory>
#include <utility>

#include "engine/base/status_macros.h"
#include "engine/format/raw/raw_slice.h"
#include "engine/native/drivers/file_driver.h"
#include "engine/native/drivers/openings.h"
#include "engine/native/option_checks.h"

namespace tidemark::native {
namespace {

// Raw needs nothing for itself: its users reach through it.
graph::Permissions RawFilePermissions() { return {}; }

}  // namespace

absl::StatusOr<graph::Node*> OpenRaw(NodeOpening& opening,
                                     const block::v1::BlockdevOptions& options,
                                     graph::NodeSpec spec) {
  ASSIGN_OR_RETURN(graph::Edge* const file,
                   opening.Attach(options.raw().file(), spec.name, graph::kRoleFile,
                                  RawFilePermissions(), opening.inherited()));
  raw::SliceOptions slice;
  slice.offset_bytes = options.raw().offset();
  if (options.raw().has_size()) {
    slice.size_bytes = options.raw().size();
    RETURN_IF_ERROR(CheckWholeSectors(spec.name, options.raw().size()));
  }
  ASSIGN_OR_RETURN(std::unique_ptr<storage::Storage> window, raw::OpenSlice(file->port(), slice));
  const bool shows_all = slice.offset_bytes == 0 && !slice.size_bytes.has_value();
  spec.driver =
      std::make_shared<PlainDriver>("raw", opening.FilenameOf(*file), std::move(window), shows_all);
  spec.children.push_back(
      {.edge = file,
       .role = graph::kRoleFile,
       .policy = shows_all ? graph::ChildPolicy::kFilter : graph::ChildPolicy::kWindow});
  return opening.Add(std::move(spec));
}

const block::v1::BlockdevRef* FileOfRaw(const block::v1::BlockdevOptions& options) {
  return options.raw().has_file() ? &options.raw().file() : nullptr;
}

block::v1::BlockdevOptions RawOverPath(const std::string& path) {
  block::v1::BlockdevOptions options;
  *options.mutable_raw()->mutable_file()->mutable_definition() = FileOverPath(path);
  return options;
}

}  // namespace tidemark::native
