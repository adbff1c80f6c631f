#include "engine/native/jobs/drive_target.h"

#include <filesystem>
#include <memory>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/format/qcow2/create.h"
#include "engine/native/drivers/driver_table.h"
#include "engine/native/jobs/create_image.h"
#include "engine/native/node_closing.h"
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

std::string Attempted(const DriveTarget& target) {
  return absl::StrCat("cannot back up to \"", target.path, "\"");
}

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
    const graph::Node& image = *backing->WithoutJobFilters();
    // Absolute: the target may lie in another folder.
    source.backing_file = std::filesystem::absolute(image.driver().filename());
    source.backing_driver = std::string(image.driver().name());
  }
  return source;
}

absl::Status CreateIn(storage::Storage& file, const Source& source, const std::string& format) {
  if (format == "raw") {
    return CreateRawImage(file, source.size_bytes, storage::Preallocation::kOff);
  }
  qcow2::CreateOptions create;
  create.size_bytes = source.size_bytes;
  if (!source.backing_file.empty()) {
    create.backing_file = source.backing_file;
    create.backing_format = source.backing_driver;
  }
  return qcow2::Create(file, create);
}

// Puts an empty image of `format` into the file. Attached first: what is in the way of that, and
// whoever has the file open, is known before anything in it is touched.
absl::Status CreateTarget(Engine& engine, const Source& source, const DriveTarget& target,
                          const std::string& format) {
  RETURN_IF_ERROR(EnsureImageFile(engine, target.path));
  block::v1::BlockdevRef reference;
  reference.mutable_definition()->mutable_file()->set_filename(target.path);
  ASSIGN_OR_RETURN(
      graph::Edge* const edge,
      engine.opener.OpenAndAttach(
          reference,
          {.user = "drive-backup",
           .permissions = {.used = storage::kPermissionWrite | storage::kPermissionResize,
                           .shared = storage::kPermissionAll & ~storage::kPermissionResize}}));
  absl::Status status = engine.threads.OnEngine(
      [&] { return CheckAlone(engine, *edge->child(), edge, Attempted(target)); });
  if (status.ok()) status = CreateIn(*edge->port(), source, format);
  status.Update(DetachAndClose(engine.threads, engine.graph, {edge}));
  return status;
}

absl::StatusOr<std::string> FormatOf(Engine& engine, const Source& source,
                                     const DriveTarget& target) {
  std::string format = target.format;
  if (format.empty() && target.existing) {
    ASSIGN_OR_RETURN(format,
                     engine.opener.ChooseFormat(target.path, "say what it is with `format`"));
  }
  if (format.empty()) format = source.driver == "qcow2" ? "qcow2" : "raw";
  if (format == "qcow2" || format == "raw") return format;
  return Error(Reason::kInvalidField,
               absl::StrCat("unknown format \"", format, "\" for target \"", target.path,
                            "\": use qcow2 or raw"),
               {{"field", "format"}});
}

// What raw cannot do.
absl::Status CheckRaw(const Source& source, const BackupRequest& request) {
  const DriveTarget& target = *request.target_file;
  absl::string_view what;
  // In an image that exists, sync top needs nothing to be recorded.
  if (request.backup.sync == job::SyncMode::kNone) what = "sync none";
  if (request.backup.sync == job::SyncMode::kTop && !source.backing_file.empty() &&
      !target.existing) {
    what = "sync top";
  }
  if (!what.empty()) {
    return Error(Reason::kNodeLacksFeature,
                 absl::StrCat("cannot back up \"", request.source_node, "\" with ", what, " to \"",
                              target.path, "\": its format raw has no backing images, and \"",
                              source.backing_file, "\" would have to be one; use qcow2"),
                 {{"format", "raw"}, {"node", request.source_node}});
  }
  if (request.backup.compress) {
    return Error(Reason::kNodeLacksFeature,
                 absl::StrCat("backup job '", request.job.id, "': target \"", target.path,
                              "\" cannot store compressed data: its format is raw"),
                 {{"format", "raw"}, {"job", request.job.id}});
  }
  return absl::OkStatus();
}

// A target that shows another image where it holds nothing itself has that image's name in it.
absl::Status CheckRecordable(const Source& source, const BackupRequest& request) {
  const DriverRow* const driver = FindDriver(source.backing_driver);
  if (source.backing_file.empty() || (driver != nullptr && driver->over_path != nullptr)) {
    return absl::OkStatus();
  }
  return Error(
      Reason::kNodeLacksFeature,
      absl::StrCat("cannot back up \"", request.source_node, "\" to \"", request.target_file->path,
                   "\": the target would have to name node \"", source.backing_node_name,
                   "\" as its backing file, which is none (driver ", source.backing_driver, ")"),
      {{"node", source.backing_node_name}});
}

}  // namespace

absl::StatusOr<graph::Node*> OpenDriveTarget(Engine& engine, BackupRequest* request) {
  const DriveTarget& target = *request->target_file;
  ASSIGN_OR_RETURN(const Source source, engine.threads.OnEngine([&] {
    return LookAt(engine, request->source_node, &request->backup.sync);
  }));
  ASSIGN_OR_RETURN(const std::string format, FormatOf(engine, source, target));
  if (format == "raw") RETURN_IF_ERROR(CheckRaw(source, *request));
  if (!target.existing) {
    RETURN_IF_ERROR(CheckRecordable(source, *request));
    RETURN_IF_ERROR(CreateTarget(engine, source, target, format));
  }

  block::v1::BlockdevOptions options;
  options.set_discard(block::v1::BLOCKDEV_DISCARD_OPTIONS_UNMAP);
  block::v1::BlockdevRef* file = options.mutable_raw()->mutable_file();
  if (format == "qcow2") {
    file = options.mutable_qcow2()->mutable_file();
    // With sync none the target shows the source where it holds nothing itself.
    if (request->backup.sync == job::SyncMode::kNone) {
      options.mutable_qcow2()->mutable_backing()->set_reference(source.backing_node_name);
    } else if (target.existing && target.format.empty()) {
      // A guess: nothing that the image names is opened, whoever has written it meanwhile.
      options.mutable_qcow2()->mutable_backing()->mutable_none();
    }
  }
  file->mutable_definition()->mutable_file()->set_filename(target.path);
  ASSIGN_OR_RETURN(graph::Node* const node, engine.opener.Open(options, graph::Ownership::kEngine));
  graph::RemovedNodes refused;
  const absl::Status alone = engine.threads.OnEngine([&] {
    absl::Status status = CheckAlone(engine, *node, /*own=*/nullptr, Attempted(target));
    if (!status.ok()) {
      engine.graph.LeaveToUsers(node);
      refused = engine.graph.TakeOrphans();
    }
    return status;
  });
  if (alone.ok()) return node;
  // Nothing was written to it.
  CloseNodes(engine.threads, engine.graph, std::move(refused)).IgnoreError();
  return alone;
}

}  // namespace tidemark::native
