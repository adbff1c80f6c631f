#include "engine/native/exports.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/native/graph_change.h"
#include "engine/native/node_closing.h"
#include "engine/native/writethrough.h"
#include "tidemark/block/v1/event.pb.h"

namespace tidemark::native {
namespace {

absl::Status NotRunning(absl::string_view attempted) {
  return Error(Reason::kNbdServerNotRunning,
               absl::StrCat("cannot ", attempted, ": the NBD server is not running"));
}

}  // namespace

absl::Status Exports::StartServer(nbd::Server::Options options) {
  RETURN_IF_ERROR(threads_.OnEngine([&]() -> absl::Status {
    if (server_ == nullptr) return absl::OkStatus();
    return Error(Reason::kNbdServerRunning,
                 absl::StrCat("cannot start an NBD server at ", nbd::ToString(options.address),
                              ": one is running already, at ", nbd::ToString(server_->address())));
  }));
  ASSIGN_OR_RETURN(std::shared_ptr<nbd::Server> server, nbd::Server::Start(std::move(options)));
  threads_.OnEngine([&] { server_ = std::move(server); });
  return absl::OkStatus();
}

absl::Status Exports::StopServer() {
  std::shared_ptr<nbd::Server> server = threads_.OnEngine([this] { return server_; });
  if (server == nullptr) return NotRunning("stop it");
  server->Stop();
  absl::Status status;
  const auto first = [this] { return records_.begin(); };
  while (!threads_.OnEngine([this] { return records_.empty(); })) {
    status.Update(Finish(threads_.OnEngine(first)));
  }
  threads_.OnEngine([this] { server_ = nullptr; });
  return status;
}

absl::Status Exports::CheckNew(const ExportRequest& request) const {
  for (const std::unique_ptr<Record>& record : records_) {
    if (record->id != request.id) continue;
    return Error(Reason::kExportExists, absl::StrCat("export id \"", request.id, "\" is in use"),
                 {{"export", request.id}});
  }
  return absl::OkStatus();
}

absl::StatusOr<Exports::UsedBitmap> Exports::FindBitmap(graph::Node* node,
                                                        const ExportRequest& request,
                                                        const ExportedBitmap& wanted) const {
  UsedBitmap found;
  if (!wanted.node_name.empty()) {
    ASSIGN_OR_RETURN(found.node, graph_.Find(wanted.node_name));
    ASSIGN_OR_RETURN(found.bitmap, found.node->bitmaps().Find(wanted.name));
  } else {
    // Of the node itself, or of the nearest below it that has one of this name.
    for (graph::Node* at = node; at != nullptr && found.bitmap == nullptr;) {
      const absl::StatusOr<graph::Bitmap*> bitmap = at->bitmaps().Find(wanted.name);
      if (bitmap.ok()) found = {at, *bitmap};
      at = at->filtered() != nullptr ? at->filtered() : at->backing();
    }
    if (found.bitmap == nullptr) return node->bitmaps().Find(wanted.name).status();
  }
  RETURN_IF_ERROR(found.node->bitmaps().Check(*found.bitmap, graph::BitmapUse::kRead));
  if (!request.writable && !found.node->read_only() && found.bitmap->enabled()) {
    return Error(Reason::kInvalidCombination,
                 absl::StrCat("bitmap \"", wanted.name, "\" of node \"", found.node->name(),
                              "\" is enabled, so clients of the read-only export \"", request.id,
                              "\" would see it change; disable it first"),
                 {{"bitmap", wanted.name}, {"export", request.id}});
  }
  return found;
}

absl::StatusOr<std::unique_ptr<Exports::Record>> Exports::Link(const ExportRequest& request) {
  ASSIGN_OR_RETURN(graph::Node* const node, graph_.Find(request.node_name));
  RETURN_IF_ERROR(graph_.CheckNotBlocked(*node, graph::Operation::kExport));
  if (request.writable && node->read_only()) {
    return Error(Reason::kNodeReadOnly,
                 absl::StrCat("cannot export node \"", node->name(), "\" as writable \"",
                              request.id, "\": the node is read-only"),
                 {{"node", node->name()}, {"export", request.id}});
  }
  if (server_ == nullptr) return NotRunning(absl::StrCat("export \"", request.id, "\""));
  auto record = std::make_unique<Record>();
  record->id = request.id;
  record->nbd_name = request.name;
  std::vector<UsedBitmap> bitmaps;
  for (const ExportedBitmap& wanted : request.bitmaps) {
    ASSIGN_OR_RETURN(const UsedBitmap used, FindBitmap(node, request, wanted));
    // Clients know a bitmap by its name alone.
    for (const UsedBitmap& other : bitmaps) {
      if (other.bitmap->name() != wanted.name) continue;
      return Error(Reason::kInvalidCombination,
                   absl::StrCat("export \"", request.id, "\" would show two bitmaps named \"",
                                wanted.name, "\""),
                   {{"bitmap", wanted.name}, {"export", request.id}});
    }
    bitmaps.push_back(used);
  }
  graph::Permissions permissions;
  permissions.used = storage::kPermissionConsistentRead;
  if (request.writable) permissions.used = permissions.used | storage::kPermissionWrite;
  // Clients are told the size once.
  permissions.shared = storage::kPermissionAll & ~storage::kPermissionResize;
  ASSIGN_OR_RETURN(record->edge,
                   graph_.Attach(node, {.user = absl::StrCat("block export '", request.id, "'"),
                                        .permissions = permissions}));
  for (const UsedBitmap& used : bitmaps) {
    if (absl::Status status = Use(used, record.get()); !status.ok()) {
      Unlink(*record);
      return status;
    }
  }
  return record;
}

absl::Status Exports::Use(UsedBitmap used, Record* record) {
  ASSIGN_OR_RETURN(
      used.edge, graph_.Attach(used.node, {.user = absl::StrCat("block export '", record->id, "'"),
                                           .role = "bitmap",
                                           .permissions = {},
                                           .gated = false}));
  used.node->bitmaps().BeginUse(used.bitmap);
  record->bitmaps.push_back(used);
  return absl::OkStatus();
}

void Exports::Unlink(const Record& record) {
  for (const UsedBitmap& used : record.bitmaps) {
    used.node->bitmaps().EndUse(used.bitmap);
    graph_.Detach(used.edge);
  }
  graph_.Detach(record.edge);
}

absl::Status Exports::Add(const ExportRequest& request) {
  std::shared_ptr<nbd::Server> server;
  std::unique_ptr<Record> record;
  RETURN_IF_ERROR(ChangeGraph(
      threads_, graph_,
      [&]() -> absl::Status {
        RETURN_IF_ERROR(CheckNew(request));
        server = server_;
        ASSIGN_OR_RETURN(record, Link(request));
        return absl::OkStatus();
      },
      [&] { Unlink(*record); }));
  nbd::Export exported;
  exported.name = record->nbd_name;
  exported.description = request.description;
  exported.storage = record->edge->port();
  if (request.writethrough) {
    exported.storage = std::make_shared<WritethroughStorage>(exported.storage);
  }
  exported.writable = request.writable;
  exported.allocation_depth = request.allocation_depth;
  for (const UsedBitmap& used : record->bitmaps) {
    exported.bitmaps.push_back({used.bitmap->name(), used.bitmap->bits()});
  }
  const absl::Status status = server->AddExport(std::move(exported));
  ChangeGraph(threads_, graph_, [&] {
    if (status.ok()) {
      records_.push_front(std::move(record));
    } else {
      Unlink(*record);
    }
  });
  return status;
}

absl::Status Exports::Remove(const std::string& id, bool force) {
  std::shared_ptr<nbd::Server> server;
  const auto found = threads_.OnEngine([&] {
    const auto record = std::find_if(records_.begin(), records_.end(),
                                     [&](const auto& other) { return other->id == id; });
    if (record != records_.end() && force) (*record)->shutting_down = true;
    server = server_;
    return record == records_.end() ? absl::optional<Records::iterator>() : record;
  });
  if (!found.has_value()) {
    return Error(Reason::kExportNotFound, absl::StrCat("there is no export \"", id, "\""),
                 {{"export", id}});
  }
  const absl::Status status = server->RemoveExport(
      (**found)->nbd_name, force ? nbd::Server::RemoveMode::kHard : nbd::Server::RemoveMode::kSafe);
  if (!status.ok()) return Annotate(status, absl::StrCat("cannot remove export \"", id, "\""));
  return Finish(*found);
}

absl::Status Exports::Finish(Records::iterator record) {
  graph::RemovedNodes orphans;
  ChangeGraph(threads_, graph_, [&] {
    block::v1::Event event;
    event.set_kind(block::v1::EVENT_KIND_BLOCK_EXPORT_DELETED);
    event.mutable_block_export_deleted()->set_id((*record)->id);
    event.mutable_block_export_deleted()->set_node_name(
        (*record)->edge->child()->WithoutJobFilters()->name());
    Unlink(**record);
    orphans = graph_.TakeOrphans();
    records_.erase(record);
    log_.Append("", std::move(event));
  });
  return Annotate(CloseNodes(threads_, graph_, std::move(orphans)),
                  "the export is gone, but not all was saved");
}

std::vector<ExportInfo> Exports::List() const {
  std::vector<ExportInfo> exports;
  for (const std::unique_ptr<Record>& record : records_) {
    exports.push_back(
        {record->id, record->edge->child()->WithoutJobFilters()->name(), record->shutting_down});
  }
  return exports;
}

void Exports::AddNodesOf(const Record& record, std::vector<const graph::Node*>* nodes) {
  nodes->push_back(record.edge->child());
  for (const UsedBitmap& used : record.bitmaps) nodes->push_back(used.node);
}

std::vector<const graph::Node*> Exports::NodesOf(absl::string_view id) const {
  std::vector<const graph::Node*> nodes;
  for (const std::unique_ptr<Record>& record : records_) {
    if (record->id == id) AddNodesOf(*record, &nodes);
  }
  return nodes;
}

std::vector<const graph::Node*> Exports::AllNodes() const {
  std::vector<const graph::Node*> nodes;
  for (const std::unique_ptr<Record>& record : records_) AddNodesOf(*record, &nodes);
  return nodes;
}

}  // namespace tidemark::native
