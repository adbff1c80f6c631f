#include "engine/native/opener.h"

#include <unistd.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/graph/limits.h"
#include "engine/native/drivers/driver_table.h"
#include "engine/native/graph_change.h"
#include "engine/native/node_closing.h"
#include "engine/native/option_checks.h"

namespace tidemark::native {
namespace {

using block::v1::BlockdevOptions;
using block::v1::BlockdevRef;

graph::DetectZeroes ToGraph(block::v1::BlockdevDetectZeroesOptions detect_zeroes) {
  switch (detect_zeroes) {
    case block::v1::BLOCKDEV_DETECT_ZEROES_OPTIONS_ON:
      return graph::DetectZeroes::kOn;
    case block::v1::BLOCKDEV_DETECT_ZEROES_OPTIONS_UNMAP:
      return graph::DetectZeroes::kUnmap;
    default:
      return graph::DetectZeroes::kOff;
  }
}

}  // namespace

absl::StatusOr<std::string> ResolveBackingFile(const std::string& backing_file,
                                               const std::string& image_file) {
  const size_t colon = backing_file.find(':');
  // A colon before any slash is a protocol, as QEMU reads it.
  if (colon != std::string::npos && backing_file.find('/') > colon &&
      !absl::StartsWith(backing_file, "file:")) {
    return Error(
        Reason::kFeatureUnsupported,
        absl::StrCat("image \"", image_file, "\" names its backing file \"", backing_file,
                     "\", which is no plain path; open the backing node yourself and name it "
                     "with `backing`"),
        {{"file", image_file}});
  }
  const std::string path(absl::StartsWith(backing_file, "file:")
                             ? backing_file.substr(sizeof("file:") - 1)
                             : backing_file);
  const size_t slash = image_file.rfind('/');
  if (absl::StartsWith(path, "/") || slash == std::string::npos) return path;
  return absl::StrCat(image_file.substr(0, slash + 1), path);
}

absl::StatusOr<graph::Node*> Opener::Add(graph::NodeSpec spec) {
  // If it is refused, the driver goes here, where that may block.
  const std::shared_ptr<graph::Driver> driver = spec.driver;
  graph::Node* node = nullptr;
  RETURN_IF_ERROR(ChangeGraph(
      threads_, graph_,
      [&]() -> absl::Status {
        ASSIGN_OR_RETURN(node, graph_.AddNode(std::move(spec)));
        return absl::OkStatus();
      },
      [&] { graph_.TakeBack(node); }));
  return node;
}

absl::StatusOr<graph::Node*> Opener::Open(const BlockdevOptions& options,
                                          graph::Ownership ownership) {
  return OpenNode(options, ownership, /*hidden=*/false, Inherited());
}

absl::StatusOr<graph::Node*> Opener::OpenNode(const BlockdevOptions& options,
                                              graph::Ownership ownership, bool hidden,
                                              const Inherited& inherited) {
  if (inherited.depth >= graph::kGraphDepthMax) return TooDeepError(options, inherited.depth);
  const auto& cache = options.cache();
  graph::NodeSpec spec;
  spec.name = options.node_name();
  spec.ownership = ownership;
  spec.hidden = hidden;
  spec.options.read_only = options.has_read_only() ? options.read_only() : inherited.read_only;
  spec.options.auto_read_only =
      options.has_auto_read_only() ? options.auto_read_only() : inherited.auto_read_only;
  spec.options.force_share =
      options.has_force_share() ? options.force_share() : inherited.force_share;
  spec.options.cache_direct = cache.has_direct() ? cache.direct() : inherited.cache_direct;
  spec.options.cache_no_flush = cache.has_no_flush() ? cache.no_flush() : inherited.cache_no_flush;
  spec.options.detect_zeroes = ToGraph(options.detect_zeroes());
  const bool discard_unmaps = options.discard() == block::v1::BLOCKDEV_DISCARD_OPTIONS_UNSPECIFIED
                                  ? inherited.discard_unmaps
                                  : options.discard() == block::v1::BLOCKDEV_DISCARD_OPTIONS_UNMAP;
  spec.options.discard = discard_unmaps ? graph::DiscardMode::kUnmap : graph::DiscardMode::kIgnore;
  RETURN_IF_ERROR(CheckOptions(spec, options));
  if (!spec.name.empty()) {
    RETURN_IF_ERROR(threads_.OnEngine([&] { return graph_.CheckNewName(spec.name); }));
  }
  const DriverRow* const driver = FindDriver(options.driver_case());
  if (driver == nullptr) {
    return Error(Reason::kInvalidField,
                 absl::StrCat("node \"", spec.name, "\": no driver that this engine has"),
                 {{"field", "options.driver"}});
  }
  NodeOpening opening(this, inherited, spec.options);
  return driver->open(opening, options, std::move(spec));
}

absl::StatusOr<graph::Edge*> Opener::AttachChild(const BlockdevRef& reference,
                                                 graph::AttachRequest request,
                                                 const Inherited& inherited) {
  graph::Edge* edge = nullptr;
  if (reference.node_case() == BlockdevRef::kReference) {
    RETURN_IF_ERROR(ChangeGraph(
        threads_, graph_,
        [&]() -> absl::Status {
          ASSIGN_OR_RETURN(graph::Node* const node, graph_.Find(reference.reference()));
          ASSIGN_OR_RETURN(edge, graph_.Attach(node, std::move(request)));
          return absl::OkStatus();
        },
        [&] { graph_.Detach(edge); }));
    return edge;
  }
  // The engine's until it has a user: nobody takes it for one that is left.
  ASSIGN_OR_RETURN(
      graph::Node* const node,
      OpenNode(reference.definition(), graph::Ownership::kEngine, /*hidden=*/true, inherited));
  graph::RemovedNodes refused;
  absl::Status status = ChangeGraph(
      threads_, graph_,
      [&]() -> absl::Status {
        absl::StatusOr<graph::Edge*> attached = graph_.Attach(node, std::move(request));
        if (!attached.ok()) {
          refused = graph_.RemoveNode(node);
          return attached.status();
        }
        edge = *attached;
        graph_.LeaveToUsers(node);
        return absl::OkStatus();
      },
      [&] {
        graph_.Detach(edge);
        refused = graph_.RemoveNode(node);
      });
  CloseNodes(threads_, graph_, std::move(refused)).IgnoreError();  // As in ~NodeOpening.
  if (!status.ok()) return status;
  return edge;
}

absl::StatusOr<graph::Edge*> Opener::OpenAndAttach(const BlockdevRef& reference,
                                                   graph::AttachRequest request) {
  return AttachChild(reference, std::move(request), Inherited());
}

absl::Status Opener::LookAtFound(const std::string& path) const {
  if (lookups_ == nullptr) return policy_.CheckPath(path);
  return lookups_->LookAndWait(path, [policy = policy_, path]() -> absl::Status {
    RETURN_IF_ERROR(policy.CheckPath(path));
    // A policy that allows everything has not asked the disk. What is missing is told by the
    // opening.
    (void)access(path.c_str(), F_OK);
    return absl::OkStatus();
  });
}

absl::StatusOr<BlockdevOptions> Opener::BackingOptions(const std::string& backing_file,
                                                       const absl::optional<std::string>& format,
                                                       const std::string& image_file) {
  ASSIGN_OR_RETURN(const std::string path, ResolveBackingFile(backing_file, image_file));
  RETURN_IF_ERROR(LookAtFound(path));
  std::string driver = format.value_or("");
  const bool is_guess = driver.empty();
  if (is_guess) {
    ASSIGN_OR_RETURN(
        driver, ChooseFormat(path, absl::StrCat("say what it is with `backing` in the request, "
                                                "or record it in \"",
                                                image_file, "\" (qemu-img rebase -u -F)")));
  }
  const DriverRow* const row = FindDriver(driver);
  if (row == nullptr || row->over_path == nullptr) {
    return Error(Reason::kFeatureUnsupported,
                 absl::StrCat("backing file \"", path, "\" of \"", image_file, "\" has format \"",
                              driver, "\", which this engine does not have"),
                 {{"file", path}});
  }
  BlockdevOptions options = row->over_path(path);
  // Nor what it names by now, if somebody has written it since the guess.
  if (is_guess && options.has_qcow2()) options.mutable_qcow2()->mutable_backing()->mutable_none();
  return options;
}

}  // namespace tidemark::native
