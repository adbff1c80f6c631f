#include "engine/native/jobs/create_image.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/format/qcow2/create.h"
#include "engine/native/command_keys.h"
#include "engine/native/drivers/file_driver.h"
#include "engine/native/node_closing.h"
#include "qmp/options.pb.h"

namespace tidemark::native {
namespace {

using block::v1::BlockdevCreateOptions;

// How a node that becomes an image is used meanwhile.
constexpr char kUser[] = "block job of blockdev-create";

// The bytes written at once where all of an image is to be written.
constexpr uint64_t kFillBytes = uint64_t{1} << 20;
// The zeroes asked for at once where that may be writing them.
constexpr uint64_t kZeroBytes = uint64_t{64} << 20;

absl::StatusOr<storage::Preallocation> FilePreallocation(block::v1::PreallocMode mode) {
  switch (mode) {
    case block::v1::PREALLOC_MODE_UNSPECIFIED:
    case block::v1::PREALLOC_MODE_OFF:
      return storage::Preallocation::kOff;
    case block::v1::PREALLOC_MODE_FALLOC:
      return storage::Preallocation::kFallocate;
    case block::v1::PREALLOC_MODE_FULL:
      return storage::Preallocation::kFull;
    default:
      return Error(Reason::kInvalidField,
                   absl::StrCat("preallocation ", block::v1::PreallocMode_Name(mode),
                                " is for formats with metadata; use OFF, FALLOC or FULL"),
                   {{"field", "options.preallocation"}});
  }
}

qcow2::CreateOptions::Preallocation Qcow2Preallocation(block::v1::PreallocMode mode) {
  using Preallocation = qcow2::CreateOptions::Preallocation;
  switch (mode) {
    case block::v1::PREALLOC_MODE_METADATA:
      return Preallocation::kMetadata;
    case block::v1::PREALLOC_MODE_FALLOC:
      return Preallocation::kFalloc;
    case block::v1::PREALLOC_MODE_FULL:
      return Preallocation::kFull;
    default:
      return Preallocation::kOff;
  }
}

// QMP's name of a driver, as images record it.
std::string DriverName(block::v1::BlockdevDriver driver) {
  const auto* value = block::v1::BlockdevDriver_descriptor()->FindValueByNumber(driver);
  if (value->options().HasExtension(qmp::value)) return value->options().GetExtension(qmp::value);
  std::string name = value->name().substr(sizeof("BLOCKDEV_DRIVER_") - 1);
  for (char& c : name) c = c == '_' ? '-' : absl::ascii_tolower(c);
  return name;
}

absl::Status CreateQcow2(storage::Storage& file,
                         const block::v1::BlockdevCreateOptionsQcow2& options) {
  qcow2::CreateOptions create;
  create.size_bytes = options.size();
  create.version = options.version() == block::v1::BLOCKDEV_QCOW2_VERSION_V2 ? 2 : 3;
  if (options.has_cluster_size()) create.cluster_size_bytes = options.cluster_size();
  if (options.has_refcount_bits()) {
    create.refcount_bits = std::clamp<int64_t>(options.refcount_bits(), 0, UINT32_MAX);
  }
  create.backing_file = options.backing_file();
  if (options.backing_fmt() != block::v1::BLOCKDEV_DRIVER_UNSPECIFIED) {
    create.backing_format = DriverName(options.backing_fmt());
  }
  create.preallocation = Qcow2Preallocation(options.preallocation());
  create.lazy_refcounts = options.lazy_refcounts();
  if (options.compression_type() == block::v1::QCOW2_COMPRESSION_TYPE_ZSTD) {
    create.compression_type = qcow2::CompressionType::kZstd;
  }
  return qcow2::Create(file, create);
}

absl::Status CreateRaw(storage::Storage& file, const block::v1::BlockdevCreateOptionsRaw& options) {
  ASSIGN_OR_RETURN(const storage::Preallocation preallocation,
                   FilePreallocation(options.preallocation()));
  return CreateRawImage(file, options.size(), preallocation);
}

// An existing file, to be looked at only: takes no part in image locks.
absl::StatusOr<std::shared_ptr<storage::File>> OpenToLook(Engine& engine, const std::string& path) {
  return engine.files->Open(path,
                            {.read_only = true, .locking = storage::FileOptions::Locking::kOff});
}

// What a job writes to until it is cancelled: then every request that could be one of many fails.
class UntilCancelled final : public storage::ForwardingStorage {
 public:
  UntilCancelled(std::shared_ptr<storage::Storage> next, const std::atomic<bool>& cancelled)
      : ForwardingStorage(std::move(next)), cancelled_(cancelled) {}

  absl::Status Read(uint64_t offset_bytes, storage::Bytes buffer) override {
    RETURN_IF_ERROR(Check());
    return next().Read(offset_bytes, buffer);
  }
  absl::Status Write(uint64_t offset_bytes, storage::ConstBytes data,
                     storage::WriteOptions options) override {
    RETURN_IF_ERROR(Check());
    return next().Write(offset_bytes, data, options);
  }
  // In pieces as long as zeroes may have to be written as data. Whether they have to be may show
  // only at the first.
  absl::Status WriteZeroes(Range range, storage::ZeroOptions options) override {
    while (!range.empty()) {
      RETURN_IF_ERROR(Check());
      const bool at_once = tried_zeroes_.exchange(true) && next().limits().can_write_zeroes_fast;
      const uint64_t length_bytes =
          at_once ? range.length_bytes : std::min(range.length_bytes, kZeroBytes);
      RETURN_IF_ERROR(next().WriteZeroes({range.offset_bytes, length_bytes}, options));
      range = {range.offset_bytes + length_bytes, range.length_bytes - length_bytes};
    }
    return absl::OkStatus();
  }
  absl::Status Discard(Range range) override {
    RETURN_IF_ERROR(Check());
    return next().Discard(range);
  }
  absl::Status Flush() override {
    RETURN_IF_ERROR(Check());
    return next().Flush();
  }
  absl::Status Resize(uint64_t size_bytes) override {
    RETURN_IF_ERROR(Check());
    return next().Resize(size_bytes);
  }

 private:
  absl::Status Check() const {
    if (!cancelled_.load()) return absl::OkStatus();
    return Error(Reason::kJobCancelled, "the creation of the image was cancelled");
  }

  const std::atomic<bool>& cancelled_;
  std::atomic<bool> tried_zeroes_ = false;
};

// Attaches to the node that `reference` says, opening it if need be, lets `create` write to it, and
// lets go. `attempted` is for refusals; empty: told by the node's name. `empties`: what was had in
// vain is given back if `create` fails.
absl::Status CreateInNode(Engine& engine, const block::v1::BlockdevRef& reference,
                          std::string attempted, bool empties, const std::atomic<bool>& cancelled,
                          const std::function<absl::Status(storage::Storage&)>& create) {
  // Not shared for resizing: as this user is not gated, nobody could wait for its requests.
  const graph::Permissions permissions{
      .used = storage::kPermissionConsistentRead | storage::kPermissionWrite |
              storage::kPermissionResize,
      .shared = storage::kPermissionAll & ~storage::kPermissionResize};
  const OrderBook::Keys keys = KeysOf(reference);
  absl::StatusOr<graph::Edge*> edge;
  engine.commands.RunAndWait(keys, [&] {
    // Not gated: a point in time elsewhere need not wait for a long request of this job.
    edge = engine.opener.OpenAndAttach(reference,
                                       {.user = kUser, .permissions = permissions, .gated = false});
  });
  RETURN_IF_ERROR(edge.status());
  absl::Status status = engine.threads.OnEngine([&] {
    const graph::Node& node = *(*edge)->child();
    if (attempted.empty()) {
      attempted = absl::StrCat("cannot create an image in node \"", node.name(), "\"");
    }
    return CheckAlone(engine, node, *edge, attempted);
  });
  if (status.ok()) {
    UntilCancelled file((*edge)->port(), cancelled);
    status = create(file);
    // There is nobody to tell if even that fails.
    if (!status.ok() && empties) (*edge)->port()->Resize(0).IgnoreError();
  }
  engine.commands.RunAndWait(
      keys, [&] { status.Update(DetachAndClose(engine.threads, engine.graph, {*edge})); });
  return status;
}

// Makes the file hold zeroes, unless a node has it open. It becomes a node first, so that no other
// gets hold of the file before it is empty.
absl::Status CreateFile(Engine& engine, const block::v1::BlockdevCreateOptionsFile& options,
                        storage::Preallocation preallocation, const std::atomic<bool>& cancelled) {
  const std::string& path = options.filename();
  const std::string attempted = absl::StrCat("cannot create \"", path, "\"");
  // Which node that is, is known better than who holds an image lock.
  if (const auto file = OpenToLook(engine, path); file.ok()) {
    RETURN_IF_ERROR(engine.threads.OnEngine(
        [&] { return CheckFileUnused(engine, (*file)->identity(), /*own=*/nullptr, attempted); }));
  }
  RETURN_IF_ERROR(EnsureImageFile(engine, path));
  block::v1::BlockdevRef reference;
  reference.mutable_definition()->mutable_file()->set_filename(path);
  return CreateInNode(
      engine, reference, attempted, /*empties=*/true, cancelled,
      [&](storage::Storage& file) { return CreateRawImage(file, options.size(), preallocation); });
}

}  // namespace

absl::Status CheckFileUnused(const Engine& engine, const storage::FileIdentity& identity,
                             const OpenFiles::Use* own, absl::string_view attempted) {
  const absl::optional<OpenFile> open = engine.open_files.FindOther(identity, own);
  if (!open.has_value()) return absl::OkStatus();
  std::string name = open->node;
  const absl::StatusOr<graph::Node*> found = engine.graph.Find(name);
  // By the name that somebody gave: that of a node above, if need be.
  for (const graph::Node* node = found.ok() ? *found : nullptr; node != nullptr;) {
    name = node->name();
    if (!node->has_generated_name() || node->parents().empty()) break;
    node = node->parents()[0]->parent();
  }
  return Error(
      Reason::kImageLocked,
      absl::StrCat(attempted, ": node \"", name, "\" has this file open, as \"", open->path, "\""),
      {{"filename", open->path}, {"node", name}});
}

absl::Status CheckAlone(const Engine& engine, const graph::Node& node, const graph::Edge* own,
                        absl::string_view attempted) {
  for (const graph::Edge* parent : node.parents()) {
    if (parent == own) continue;
    return Error(
        Reason::kNodeBusy,
        absl::StrCat(attempted, ": node \"", node.name(), "\" is in use by ", parent->User()),
        {{"node", node.name()}, {"user", parent->User()}});
  }
  if (auto* const file = dynamic_cast<FileDriver*>(&node.driver())) {
    RETURN_IF_ERROR(CheckFileUnused(engine, file->identity(), &file->use(), attempted));
  }
  for (const graph::Edge* child : node.children()) {
    if (child->role() == graph::kRoleBacking) continue;  // It is only read.
    RETURN_IF_ERROR(CheckAlone(engine, *child->child(), child, attempted));
  }
  return absl::OkStatus();
}

absl::Status CreateRawImage(storage::Storage& file, uint64_t size_bytes,
                            storage::Preallocation preallocation) {
  // By way of nothing, so that all of it reads as zeroes.
  RETURN_IF_ERROR(file.Resize(0));
  RETURN_IF_ERROR(file.Resize(size_bytes));
  if (preallocation == storage::Preallocation::kFallocate) {
    RETURN_IF_ERROR(file.WriteZeroes({0, size_bytes}, {.may_unmap = false}));
  }
  if (preallocation == storage::Preallocation::kFull) {
    const std::vector<std::byte> zeroes(std::min<uint64_t>(kFillBytes, size_bytes));
    for (uint64_t at = 0; at < size_bytes; at += zeroes.size()) {
      const uint64_t length_bytes = std::min<uint64_t>(zeroes.size(), size_bytes - at);
      RETURN_IF_ERROR(file.Write(at, storage::ConstBytes(zeroes.data(), length_bytes), {}));
    }
  }
  return file.Flush();
}

absl::Status EnsureImageFile(Engine& engine, const std::string& path) {
  const absl::Status found = OpenToLook(engine, path).status();
  if (!absl::IsNotFound(found)) return found;
  return engine.files->Create(path, 0, storage::Preallocation::kOff, /*cancelled=*/nullptr);
}

absl::Status CreateImageAt(Engine& engine, const std::string& path, const std::string& user,
                           absl::string_view attempted,
                           absl::FunctionRef<absl::Status(storage::Storage&)> create) {
  RETURN_IF_ERROR(EnsureImageFile(engine, path));
  block::v1::BlockdevRef reference;
  reference.mutable_definition()->mutable_file()->set_filename(path);
  ASSIGN_OR_RETURN(
      graph::Edge* const edge,
      engine.opener.OpenAndAttach(
          reference,
          {.user = user,
           .permissions = {.used = storage::kPermissionWrite | storage::kPermissionResize,
                           .shared = storage::kPermissionAll & ~storage::kPermissionResize}}));
  absl::Status status =
      engine.threads.OnEngine([&] { return CheckAlone(engine, *edge->child(), edge, attempted); });
  if (status.ok()) status = create(*edge->port());
  status.Update(DetachAndClose(engine.threads, engine.graph, {edge}));
  return status;
}

absl::StatusOr<graph::Node*> OpenAlone(Engine& engine, const block::v1::BlockdevOptions& options,
                                       absl::string_view attempted) {
  ASSIGN_OR_RETURN(graph::Node* const node, engine.opener.Open(options, graph::Ownership::kEngine));
  graph::RemovedNodes refused;
  const absl::Status alone = engine.threads.OnEngine([&] {
    absl::Status status = CheckAlone(engine, *node, /*own=*/nullptr, attempted);
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

absl::Status CreateImage(Engine& engine, const BlockdevCreateOptions& options,
                         const std::atomic<bool>& cancelled) {
  switch (options.driver_case()) {
    case BlockdevCreateOptions::kFile: {
      ASSIGN_OR_RETURN(const storage::Preallocation preallocation,
                       FilePreallocation(options.file().preallocation()));
      return CreateFile(engine, options.file(), preallocation, cancelled);
    }
    case BlockdevCreateOptions::kRaw:
      return CreateInNode(engine, options.raw().file(), /*attempted=*/"", /*empties=*/false,
                          cancelled,
                          [&](storage::Storage& file) { return CreateRaw(file, options.raw()); });
    case BlockdevCreateOptions::kQcow2:
      return CreateInNode(
          engine, options.qcow2().file(), /*attempted=*/"", /*empties=*/false, cancelled,
          [&](storage::Storage& file) { return CreateQcow2(file, options.qcow2()); });
    default:
      return Error(Reason::kInvalidField, "no driver that this engine can create images of",
                   {{"field", "options.driver"}});
  }
}

}  // namespace tidemark::native
