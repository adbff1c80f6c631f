#include <memory>
#include <utility>

#include "engine/base/status_macros.h"
#include "engine/native/drivers/file_driver.h"
#include "engine/native/drivers/openings.h"

namespace tidemark::native {
namespace {

storage::FileOptions::Locking ToStorage(block::v1::OnOffAuto locking) {
  switch (locking) {
    case block::v1::ON_OFF_AUTO_ON:
      return storage::FileOptions::Locking::kOn;
    case block::v1::ON_OFF_AUTO_OFF:
      return storage::FileOptions::Locking::kOff;
    default:
      return storage::FileOptions::Locking::kAuto;
  }
}

bool MayFallBackToReadOnly(const absl::Status& status) { return absl::IsPermissionDenied(status); }

}  // namespace

absl::StatusOr<graph::Node*> OpenFile(NodeOpening& opening,
                                      const block::v1::BlockdevOptions& options,
                                      graph::NodeSpec spec) {
  const std::string& path = options.file().filename();
  storage::FileOptions file_options{
      .read_only = spec.options.read_only,
      .direct = spec.options.cache_direct,
      .no_flush = spec.options.cache_no_flush,
      .discard_unmaps = spec.options.discard == graph::DiscardMode::kUnmap,
      // Who reads whatever others do meanwhile takes no part in the locks.
      .locking = spec.options.force_share ? storage::FileOptions::Locking::kOff
                                          : ToStorage(options.file().locking())};
  absl::StatusOr<std::shared_ptr<storage::File>> file = opening.files().Open(path, file_options);
  if (!file.ok() && !spec.options.read_only && spec.options.auto_read_only &&
      MayFallBackToReadOnly(file.status())) {
    spec.options.read_only = file_options.read_only = true;
    file = opening.files().Open(path, file_options);
  }
  RETURN_IF_ERROR(file.status());
  const auto driver =
      std::make_shared<FileDriver>(*file, opening.open_files().Add((*file)->identity(), path));
  spec.driver = driver;
  ASSIGN_OR_RETURN(graph::Node* const node, opening.Add(std::move(spec)));
  driver->use().set_node(node->name());
  return node;
}

block::v1::BlockdevOptions FileOverPath(const std::string& path) {
  block::v1::BlockdevOptions options;
  options.mutable_file()->set_filename(path);
  return options;
}

}  // namespace tidemark::native
