#include "engine/native/opener.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/format/qcow2/header.h"
#include "engine/format/raw/raw_slice.h"
#include "engine/graph/limits.h"
#include "engine/native/drivers/file_driver.h"
#include "engine/native/drivers/latency_storage.h"
#include "engine/native/drivers/qcow2_driver.h"
#include "engine/native/graph_change.h"
#include "engine/native/node_closing.h"
#include "engine/native/option_checks.h"
#include "engine/storage/limits.h"
#include "engine/storage/null_storage.h"

namespace tidemark::native {
namespace {

using block::v1::BlockdevOptions;
using block::v1::BlockdevOptionsFile;
using block::v1::BlockdevOptionsQcow2;
using block::v1::BlockdevRef;

constexpr uint64_t kNullDefaultBytes = uint64_t{1} << 30;

// Who a child is attached for, until the node above it exists.
std::string UserNamed(const std::string& node_name) {
  return node_name.empty() ? "an unnamed node" : absl::StrCat("node '", node_name, "'");
}

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

// Raw needs nothing for itself: its users reach through it.
graph::Permissions RawFilePermissions() { return {}; }

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

bool MayFallBackToReadOnly(const absl::Status& status) { return absl::IsPermissionDenied(status); }

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

class Opener::Children {
 public:
  explicit Children(Opener* opener) : opener_(*opener) {}
  ~Children() {
    if (edges_.empty()) return;
    std::reverse(edges_.begin(), edges_.end());
    // What was just opened has nothing to lose.
    DetachAndClose(opener_.threads_, opener_.graph_, edges_).IgnoreError();
  }
  void Add(graph::Edge* edge) { edges_.push_back(edge); }
  // The new node has taken them over.
  void Release() { edges_.clear(); }

 private:
  Opener& opener_;
  std::vector<graph::Edge*> edges_;
};

Opener::Inherited Opener::Below(const Inherited& above, const graph::NodeOptions& options) {
  Inherited inherited = above;
  inherited.discard_unmaps = true;
  inherited.read_only = options.read_only;
  inherited.auto_read_only = options.auto_read_only;
  inherited.force_share = options.force_share;
  inherited.cache_direct = options.cache_direct;
  inherited.cache_no_flush = options.cache_no_flush;
  ++inherited.depth;
  return inherited;
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
  switch (options.driver_case()) {
    case BlockdevOptions::kFile:
      return OpenFileNode(options, std::move(spec));
    case BlockdevOptions::kRaw:
      return OpenRawNode(options, std::move(spec), inherited);
    case BlockdevOptions::kQcow2:
      return OpenQcow2Node(options, std::move(spec), inherited);
    case BlockdevOptions::kNullCo:
      return OpenNullNode(options, std::move(spec));
    default:
      return Error(Reason::kInvalidField,
                   absl::StrCat("node \"", spec.name, "\": no driver that this engine has"),
                   {{"field", "options.driver"}});
  }
}

absl::StatusOr<graph::Node*> Opener::OpenFileNode(const BlockdevOptions& options,
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
  absl::StatusOr<std::shared_ptr<storage::File>> file = files_.Open(path, file_options);
  if (!file.ok() && !spec.options.read_only && spec.options.auto_read_only &&
      MayFallBackToReadOnly(file.status())) {
    spec.options.read_only = file_options.read_only = true;
    file = files_.Open(path, file_options);
  }
  RETURN_IF_ERROR(file.status());
  const auto driver =
      std::make_shared<FileDriver>(*file, open_files_.Add((*file)->identity(), path));
  spec.driver = driver;
  ASSIGN_OR_RETURN(graph::Node* const node, Add(std::move(spec)));
  driver->use().set_node(node->name());
  return node;
}

absl::StatusOr<graph::Edge*> Opener::AttachChild(const BlockdevRef& reference,
                                                 const std::string& user, absl::string_view role,
                                                 const graph::Permissions& permissions,
                                                 const Inherited& inherited) {
  graph::AttachRequest request{.user = user, .role = std::string(role), .permissions = permissions};
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
  CloseNodes(threads_, graph_, std::move(refused)).IgnoreError();  // As in ~Children.
  if (!status.ok()) return status;
  return edge;
}

absl::StatusOr<graph::Edge*> Opener::OpenAndAttach(const BlockdevRef& reference,
                                                   graph::AttachRequest request) {
  return AttachChild(reference, request.user, request.role, request.permissions, Inherited());
}

absl::StatusOr<graph::Node*> Opener::OpenRawNode(const BlockdevOptions& options,
                                                 graph::NodeSpec spec, const Inherited& above) {
  const Inherited inherited = Below(above, spec.options);
  Children children(this);
  ASSIGN_OR_RETURN(graph::Edge* const file,
                   AttachChild(options.raw().file(), UserNamed(spec.name), graph::kRoleFile,
                               RawFilePermissions(), inherited));
  children.Add(file);
  raw::SliceOptions slice;
  slice.offset_bytes = options.raw().offset();
  if (options.raw().has_size()) {
    slice.size_bytes = options.raw().size();
    RETURN_IF_ERROR(CheckWholeSectors(spec.name, options.raw().size()));
  }
  ASSIGN_OR_RETURN(std::unique_ptr<storage::Storage> window, raw::OpenSlice(file->port(), slice));
  const std::string filename =
      threads_.OnEngine([&] { return file->child()->WithoutJobFilters()->driver().filename(); });
  const bool shows_all = slice.offset_bytes == 0 && !slice.size_bytes.has_value();
  spec.driver = std::make_shared<PlainDriver>("raw", filename, std::move(window), shows_all);
  spec.children.push_back(
      {.edge = file,
       .role = graph::kRoleFile,
       .policy = shows_all ? graph::ChildPolicy::kFilter : graph::ChildPolicy::kWindow});
  ASSIGN_OR_RETURN(graph::Node* const node, Add(std::move(spec)));
  children.Release();
  return node;
}

absl::StatusOr<graph::Node*> Opener::OpenNullNode(const BlockdevOptions& options,
                                                  graph::NodeSpec spec) {
  const auto& null = options.null_co();
  std::shared_ptr<storage::Storage> storage = std::make_shared<storage::NullStorage>(
      null.has_size() ? storage::WholeSectors(null.size()) : kNullDefaultBytes,
      storage::NullStorage::Options{.read_zeroes = null.read_zeroes(),
                                    .read_only = spec.options.read_only});
  if (null.latency_ns() != 0) {
    storage =
        std::make_shared<LatencyStorage>(std::move(storage), absl::Nanoseconds(null.latency_ns()));
  }
  spec.driver = std::make_shared<PlainDriver>("null-co", "null-co://", std::move(storage));
  return Add(std::move(spec));
}

absl::StatusOr<graph::Node*> Opener::OpenQcow2Node(const BlockdevOptions& options,
                                                   graph::NodeSpec spec, const Inherited& above) {
  const Inherited inherited = Below(above, spec.options);
  const BlockdevOptionsQcow2& qcow2 = options.qcow2();
  Children children(this);
  ASSIGN_OR_RETURN(graph::Edge* const file,
                   AttachChild(qcow2.file(), UserNamed(spec.name), graph::kRoleFile,
                               FormatFilePermissions(spec.options.read_only), inherited));
  children.Add(file);
  const std::string filename =
      threads_.OnEngine([&] { return file->child()->WithoutJobFilters()->driver().filename(); });

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
                   Qcow2Driver::Open(file->port(), filename, open_options));
  spec.children.push_back(
      {.edge = file, .role = graph::kRoleFile, .policy = graph::ChildPolicy::kFormatFile});
  spec.driver = driver;
  spec.bitmaps = driver->TakeLoadedBitmaps();
  const std::vector<graph::StoredBitmap> bitmaps = spec.bitmaps;
  absl::StatusOr<graph::Node*> node = AddOverBacking(qcow2, std::move(spec), inherited, &children);
  if (node.ok()) {
    children.Release();
  } else {
    // Opening has marked the bitmaps in the image as in use: a refusal must not cost them. What the
    // caller is told is why the image was refused.
    driver->Close(bitmaps).IgnoreError();
  }
  return node;
}

absl::StatusOr<graph::Node*> Opener::AddOverBacking(const BlockdevOptionsQcow2& options,
                                                    graph::NodeSpec spec, const Inherited& above,
                                                    Children* children) {
  Qcow2Driver& driver = static_cast<Qcow2Driver&>(*spec.driver);
  RETURN_IF_ERROR(
      CheckCaches(options, spec.name, driver.image().header().geometry.cluster_bytes()));
  ASSIGN_OR_RETURN(graph::Edge* const backing,
                   AttachBacking(options, spec, driver.filename(), above));
  if (backing != nullptr) {
    children->Add(backing);
    driver.image().SetBacking(backing->port());
    spec.children.push_back(
        {.edge = backing, .role = graph::kRoleBacking, .policy = graph::ChildPolicy::kBacking});
  }
  return Add(std::move(spec));
}

absl::StatusOr<graph::Edge*> Opener::AttachBacking(const BlockdevOptionsQcow2& options,
                                                   const graph::NodeSpec& spec,
                                                   const std::string& image_file,
                                                   const Inherited& above) {
  Inherited inherited = above;
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
      ASSIGN_OR_RETURN(*reference.mutable_definition(),
                       BackingOptions(header.backing_file, header.backing_format, image_file));
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
  absl::StatusOr<graph::Edge*> edge = AttachChild(
      reference, UserNamed(spec.name), graph::kRoleBacking, BackingPermissions(), inherited);
  if (edge.ok()) return edge;
  return HasReason(edge.status(), Reason::kLimitReached)
             // Of a chain that is too deep, each link would add its name.
             ? edge.status()
             : Annotate(edge.status(),
                        absl::StrCat("cannot open the backing image of \"", image_file, "\""));
}

absl::StatusOr<BlockdevOptions> Opener::BackingOptions(const std::string& backing_file,
                                                       const absl::optional<std::string>& format,
                                                       const std::string& image_file) {
  ASSIGN_OR_RETURN(const std::string path, ResolveBackingFile(backing_file, image_file));
  RETURN_IF_ERROR(policy_.CheckPath(path));
  std::string driver = format.value_or("");
  const bool is_guess = driver.empty();
  if (is_guess) {
    ASSIGN_OR_RETURN(
        driver, ChooseFormat(path, absl::StrCat("say what it is with `backing` in the request, "
                                                "or record it in \"",
                                                image_file, "\" (qemu-img rebase -u -F)")));
  }
  BlockdevOptions options;
  if (driver == "qcow2") {
    options.mutable_qcow2()->mutable_file()->mutable_definition()->mutable_file()->set_filename(
        path);
    // Nor what it names by now, if somebody has written it since the guess.
    if (is_guess) options.mutable_qcow2()->mutable_backing()->mutable_none();
  } else if (driver == "raw") {
    options.mutable_raw()->mutable_file()->mutable_definition()->mutable_file()->set_filename(path);
  } else if (driver == "file") {
    options.mutable_file()->set_filename(path);
  } else {
    return Error(Reason::kFeatureUnsupported,
                 absl::StrCat("backing file \"", path, "\" of \"", image_file, "\" has format \"",
                              driver, "\", which this engine does not have"),
                 {{"file", path}});
  }
  return options;
}

}  // namespace tidemark::native
