#include "engine/native/jobs/drive_target.h"

#include <memory>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/format/qcow2/create.h"
#include "engine/native/chain.h"
#include "engine/native/drivers/driver_table.h"
#include "engine/native/jobs/create_image.h"
#include "engine/native/recorded_chain.h"
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
  // Whether a target that is made can record that.
  absl::StatusOr<RecordedChain> backing_chain;
};

std::string Attempted(const DriveTargetUse& use, const DriveTarget& target) {
  return absl::StrCat("cannot ", use.verb, " to \"", target.path, "\"");
}

absl::StatusOr<Source> LookAt(Engine& engine, const DriveTargetUse& use, const DriveTarget& target,
                              job::SyncMode* sync) {
  ASSIGN_OR_RETURN(graph::Node* const node, engine.graph.Find(use.source_node));
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
    source.backing_file = AbsolutePath(image.driver().filename());
    source.backing_driver = std::string(image.driver().name());
    source.backing_chain = RecordedChain::Of(
        image,
        absl::StrCat("cannot ", use.verb, " \"", use.source_node, "\" to \"", target.path, "\""));
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
absl::Status CheckRaw(const Source& source, const DriveTarget& target, const DriveTargetUse& use,
                      job::SyncMode sync) {
  absl::string_view what;
  // In an image that exists, sync top needs nothing to be recorded.
  if (sync == job::SyncMode::kNone) what = "sync none";
  if (sync == job::SyncMode::kTop && !source.backing_file.empty() && !target.existing) {
    what = "sync top";
  }
  if (!what.empty()) {
    return Error(
        Reason::kNodeLacksFeature,
        absl::StrCat("cannot ", use.verb, " \"", use.source_node, "\" with ", what, " to \"",
                     target.path, "\": its format raw has no backing images, and \"",
                     source.backing_file, "\" would have to be one; use qcow2"),
        {{"format", "raw"}, {"node", use.source_node}});
  }
  if (use.compress) {
    return Error(Reason::kNodeLacksFeature,
                 absl::StrCat("backup job '", use.job_id, "': target \"", target.path,
                              "\" cannot store compressed data: its format is raw"),
                 {{"format", "raw"}, {"job", use.job_id}});
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<graph::Node*> OpenDriveTarget(Engine& engine, const DriveTarget& target,
                                             const DriveTargetUse& use, job::SyncMode* sync) {
  ASSIGN_OR_RETURN(const Source source,
                   engine.threads.OnEngine([&] { return LookAt(engine, use, target, sync); }));
  ASSIGN_OR_RETURN(const std::string format, FormatOf(engine, source, target));
  if (format == "raw") RETURN_IF_ERROR(CheckRaw(source, target, use, *sync));
  const std::string attempted = Attempted(use, target);
  if (!target.existing) {
    // A target that shows another image where it holds nothing itself has that image's name in it.
    if (!source.backing_file.empty()) {
      RETURN_IF_ERROR(source.backing_chain.status());
      RETURN_IF_ERROR(source.backing_chain->CheckFiles(engine));
    }
    RETURN_IF_ERROR(
        CreateImageAt(engine, target.path, std::string(use.command), attempted,
                      [&](storage::Storage& file) { return CreateIn(file, source, format); }));
  }

  block::v1::BlockdevOptions options;
  options.set_node_name(target.node_name);
  options.set_discard(block::v1::BLOCKDEV_DISCARD_OPTIONS_UNMAP);
  block::v1::BlockdevRef* file = options.mutable_raw()->mutable_file();
  if (format == "qcow2") {
    file = options.mutable_qcow2()->mutable_file();
    // With sync none the target shows the source where it holds nothing itself.
    const bool is_over = use.takes_place ? !target.existing && !source.backing_node_name.empty()
                                         : *sync == job::SyncMode::kNone;
    if (is_over) {
      options.mutable_qcow2()->mutable_backing()->set_reference(source.backing_node_name);
    } else if (target.existing && target.format.empty()) {
      // A guess: nothing that the image names is opened, whoever has written it meanwhile.
      options.mutable_qcow2()->mutable_backing()->mutable_none();
    }
  }
  file->mutable_definition()->mutable_file()->set_filename(target.path);
  return OpenAlone(engine, options, attempted);
}

}  // namespace tidemark::native
