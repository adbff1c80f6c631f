#include "engine/native/drive_target.h"

#include <filesystem>
#include <memory>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/format/qcow2/create.h"
#include "tidemark/block/v1/blockdev_options.pb.h"

namespace tidemark::native {
namespace {

// What of the source decides how the target is made.
struct Source {
  uint64_t size_bytes = 0;
  std::string driver;
  // What the target is to be backed by: the source itself (sync none), or its backing image (sync
  // top).
  std::string backing_node_name;
  std::string backing_file;
  std::string backing_driver;
};

absl::StatusOr<Source> LookAt(Engine& engine, const std::string& source_node, job::SyncMode* sync) {
  ASSIGN_OR_RETURN(graph::Node* const node, engine.graph.Find(source_node));
  Source source;
  source.size_bytes = node->storage()->size_bytes();
  source.driver = std::string(node->driver().name());
  const graph::Node* backing = nullptr;
  if (*sync == job::SyncMode::kTop) {
    backing = node->backing();
    if (backing == nullptr) *sync = job::SyncMode::kFull;
  }
  if (*sync == job::SyncMode::kNone) backing = node;
  if (backing != nullptr) {
    source.backing_node_name = backing->name();
    // What a backup of the backing image has put above it is not what the target records.
    const graph::Node& image = *backing->WithoutFilters();
    // Absolute: the target may lie in another folder.
    source.backing_file = std::filesystem::absolute(image.driver().filename());
    source.backing_driver = std::string(image.driver().name());
  }
  return source;
}

// Puts an empty image of `format` into the file.
absl::Status CreateTarget(Engine& engine, const Source& source, const DriveTarget& target,
                          const std::string& format) {
  if (format == "raw") {
    return engine.files->Create(target.path, source.size_bytes, storage::Preallocation::kOff,
                                /*cancelled=*/nullptr);
  }
  RETURN_IF_ERROR(
      engine.files->Create(target.path, 0, storage::Preallocation::kOff, /*cancelled=*/nullptr));
  qcow2::CreateOptions create;
  create.size_bytes = source.size_bytes;
  if (!source.backing_file.empty()) {
    create.backing_file = source.backing_file;
    create.backing_format = source.backing_driver;
  }
  block::v1::BlockdevRef reference;
  reference.mutable_definition()->mutable_file()->set_filename(target.path);
  ASSIGN_OR_RETURN(graph::Edge* const edge,
                   engine.opener.OpenAndAttach(
                       reference, {.user = "drive-backup",
                                   .permissions = {.used = storage::kPermissionWrite |
                                                           storage::kPermissionResize}}));
  absl::Status status = qcow2::Create(*edge->port(), create);
  engine.threads.OnEngine([&] { engine.graph.Detach(edge); });
  status.Update(engine.opener.CloseOrphans());
  return status;
}

}  // namespace

absl::StatusOr<graph::Node*> OpenDriveTarget(Engine& engine, const std::string& source_node,
                                             const DriveTarget& target, job::SyncMode* sync) {
  ASSIGN_OR_RETURN(const Source source,
                   engine.threads.OnEngine([&] { return LookAt(engine, source_node, sync); }));
  std::string format = target.format;
  if (format.empty() && target.existing) {
    ASSIGN_OR_RETURN(format, engine.opener.ProbeFormat(target.path));
  }
  if (format.empty()) format = source.driver == "qcow2" ? "qcow2" : "raw";
  if (format != "qcow2" && format != "raw") {
    return Error(Reason::kInvalidField,
                 absl::StrCat("unknown format \"", format, "\" for target \"", target.path,
                              "\": use qcow2 or raw"),
                 {{"field", "format"}});
  }
  if (!target.existing) RETURN_IF_ERROR(CreateTarget(engine, source, target, format));

  block::v1::BlockdevOptions options;
  options.set_discard(block::v1::BLOCKDEV_DISCARD_OPTIONS_UNMAP);
  block::v1::BlockdevRef* file = options.mutable_raw()->mutable_file();
  if (format == "qcow2") {
    file = options.mutable_qcow2()->mutable_file();
    // With sync none the target shows the source where it holds nothing itself.
    if (*sync == job::SyncMode::kNone) {
      options.mutable_qcow2()->mutable_backing()->set_reference(source.backing_node_name);
    }
  }
  file->mutable_definition()->mutable_file()->set_filename(target.path);
  return engine.opener.Open(options, graph::Ownership::kEngine);
}

}  // namespace tidemark::native
