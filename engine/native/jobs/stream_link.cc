#include "engine/native/jobs/stream_link.h"

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/graph/quiesce.h"
#include "engine/native/bitmap_memory.h"
#include "engine/native/chain.h"
#include "engine/native/drivers/file_driver.h"
#include "engine/native/drivers/qcow2_driver.h"
#include "engine/native/graph_change.h"
#include "engine/native/jobs/job_convert.h"
#include "engine/native/jobs/link_job.h"
#include "engine/native/limits.h"

namespace tidemark::native {
namespace {

using graph::Operation;
using graph::OperationSet;

// What the job forbids on the image and on those that it copies from.
constexpr OperationSet kForbidden = OperationSet::All() - Operation::kExport;

std::string UserOf(const StreamRequest& request) {
  return absl::StrCat("block job '", request.job.id, "'");
}

}  // namespace

StreamRequest FromProto(const block::v1::BlockStreamRequest& request) {
  StreamRequest stream;
  stream.job = JobOptionsOf(request, job::JobType::kStream);
  stream.job.on_source_error = native::FromProto(request.on_error());
  stream.job.on_target_error = stream.job.on_source_error;
  stream.device = request.device();
  stream.base = request.base();
  stream.base_node = request.base_node();
  stream.bottom = request.bottom();
  if (request.has_backing_file()) stream.backing_file = request.backing_file();
  stream.backing_mask_protocol = request.backing_mask_protocol();
  stream.filter_node_name = request.filter_node_name();
  return stream;
}

// ---- The beginning ----

absl::Status StreamLink::FindBottom() {
  const std::vector<graph::Node*> chain = ChainOf(image_);
  size_t bottom = chain.size() - 1;
  if (!request_.bottom.empty()) {
    ASSIGN_OR_RETURN(bottom, FindNodeInChain(engine_.graph, chain, request_.bottom));
  } else if (!request_.base_node.empty() || !request_.base.empty()) {
    size_t base = 0;
    if (!request_.base_node.empty()) {
      ASSIGN_OR_RETURN(base, FindNodeInChain(engine_.graph, chain, request_.base_node));
    } else {
      ASSIGN_OR_RETURN(base, FindFileInChain(chain, request_.base));
    }
    if (base == 0) {
      return Error(Reason::kInvalidCombination,
                   absl::StrCat("node '", request_.base_node, "' is not a backing image of '",
                                image_->name(), "', but that node itself"),
                   {{"node", request_.base_node}, {"device", image_->name()}});
    }
    bottom = base - 1;
  }
  bottom_ = chain[bottom];
  layer_count_ = static_cast<int>(bottom);
  has_base_ = bottom + 1 < chain.size();
  for (size_t i = 0; i <= bottom; ++i) {
    RETURN_IF_ERROR(engine_.graph.CheckNotBlocked(*chain[i], Operation::kStream));
  }
  return absl::OkStatus();
}

absl::Status StreamLink::CheckRecordable() const {
  if (!has_base_) {
    if (!request_.backing_file.has_value()) return absl::OkStatus();
    return Error(
        Reason::kInvalidCombination,
        absl::StrCat("backing file \"", *request_.backing_file, "\" cannot be recorded: node '",
                     image_->name(), "' will have none, since all that is below it is copied"),
        {{"field", "backing_file"}, {"node", image_->name()}});
  }
  if (request_.backing_file.has_value()) return absl::OkStatus();
  const graph::Node& base = *bottom_->backing()->WithoutJobFilters();
  if (!RecordedBackingOf(base).filename.empty()) return absl::OkStatus();
  return Error(Reason::kNodeLacksFeature,
               absl::StrCat("node '", image_->name(), "' would have to name node '", base.name(),
                            "' as its backing file, which is none (driver ", base.driver().name(),
                            "): say what to record with `backing_file`"),
               {{"node", base.name()}});
}

absl::Status StreamLink::Find() {
  ASSIGN_OR_RETURN(image_, engine_.graph.Find(request_.device));
  RETURN_IF_ERROR(CheckIsNoJobFilter(*image_, request_.job.id));
  RETURN_IF_ERROR(engine_.scheduler.Validate(request_.job));
  RETURN_IF_ERROR(FindBottom());
  RETURN_IF_ERROR(CheckRecordable());
  if (!image_->read_only() || (layer_count_ == 0 && !has_base_)) return absl::OkStatus();
  return Error(Reason::kNodeReadOnly,
               absl::StrCat("cannot copy into node '", image_->name(), "': it is read-only"),
               {{"node", image_->name()}, {"job", request_.job.id}});
}

absl::Status StreamLink::Attach() {
  graph::AttachRequest use = {
      .user = UserOf(request_),
      .role = graph::kRoleSource,
      .permissions = {.used = storage::kPermissionConsistentRead,
                      .shared = storage::kPermissionAll & ~storage::kPermissionResize},
      .gated = false};
  ASSIGN_OR_RETURN(filtered_edge_, engine_.graph.Attach(image_, use));
  if (!image_->read_only()) use.permissions.used |= storage::kPermissionWriteUnchanged;
  ASSIGN_OR_RETURN(edge_, engine_.graph.Attach(image_, std::move(use)));
  return absl::OkStatus();
}

absl::Status StreamLink::MakeJob(std::shared_ptr<StreamLink> self) {
  job::StreamParts parts;
  parts.job_id = request_.job.id;
  parts.node = image_->name();
  parts.disk = edge_->port();
  parts.layer_count = layer_count_;
  parts.is_whole_chain = !has_base_;
  parts.skips_failed = request_.job.on_source_error == job::ErrorPolicy::kIgnore;
  parts.workers = {.io = write_share_.get(),
                   .source_io = read_share_.get(),
                   .watch = engine_.threads.watch(),
                   .memory = &engine_.budgets.copy_memory};
  parts.clock = &engine_.clock;
  job::CopyHooks hooks;
  hooks.prepare = [self] { return self->ShortenChain(); };
  hooks.clean = [self] { self->Release(); };
  ASSIGN_OR_RETURN(job_, job::StreamJob::Make(std::move(parts), std::move(hooks)));
  return absl::OkStatus();
}

absl::Status StreamLink::LinkSteps(std::shared_ptr<StreamLink> self) {
  RETURN_IF_ERROR(Find());
  RETURN_IF_ERROR(Attach());
  RETURN_IF_ERROR(MakeJob(std::move(self)));
  RETURN_IF_ERROR(CountBitsOfCopy(engine_, image_, request_.job.id, this, job_->copy()));
  auto driver = std::make_shared<PlainDriver>("copy-on-read", image_->driver().filename(),
                                              filtered_edge_->port(), /*is_filter=*/true);
  RETURN_IF_ERROR(filter_.Insert(std::exchange(filtered_edge_, nullptr),
                                 {.user = UserOf(request_),
                                  .node_name = request_.filter_node_name,
                                  .driver = std::move(driver)}));
  const std::string reason = absl::StrCat("in use by block job '", request_.job.id, "' (stream)");
  for (graph::Node* node : ChainOf(image_)) {
    blocks_.emplace_back(node, engine_.graph.Block(node, kForbidden, reason));
    if (node == bottom_) break;
  }
  return absl::OkStatus();
}

absl::Status StreamLink::Link(std::shared_ptr<StreamLink> self) {
  absl::Status status = LinkSteps(std::move(self));
  if (!status.ok()) UnlinkAll();
  return status;
}

absl::Status StreamLink::CreateJob() {
  return CreateLinkedJob(engine_, this, std::move(job_), nullptr, {image_->name()});
}

void StreamLink::UnlinkAll() {
  filter_.Remove(&removed_);
  if (edge_ != nullptr) image_->bitmaps().CountNoMore(this);
  for (const auto& [node, id] : std::exchange(blocks_, {})) engine_.graph.Unblock(node, id);
  if (filtered_edge_ != nullptr) engine_.graph.Detach(std::exchange(filtered_edge_, nullptr));
  if (edge_ != nullptr) engine_.graph.Detach(std::exchange(edge_, nullptr));
  removed_.push_back(engine_.graph.TakeOrphans());
}

void StreamLink::CloseRemoved() {
  // Nothing was written to them.
  CloseRemovedByJob(engine_, request_.job.id, &removed_);
  job_ = nullptr;  // It was not created after all.
}

// ---- The end ----

absl::Status StreamLink::Record(const graph::Node* base) {
  auto* const driver = dynamic_cast<Qcow2Driver*>(&image_->driver());
  if (driver == nullptr) return absl::OkStatus();
  RecordedBacking recorded;
  if (base != nullptr) {
    recorded = engine_.threads.OnEngine([base] { return RecordedBackingOf(*base); });
    if (request_.backing_mask_protocol && recorded.format == "file") recorded.format = "raw";
  }
  if (request_.backing_file.has_value()) recorded.filename = *request_.backing_file;
  return Annotate(driver->image().ChangeBackingFile(recorded.filename, recorded.format),
                  absl::StrCat("cannot record the backing file of node '", image_->name(), "'"));
}

absl::Status StreamLink::ShortenChain() {
  struct End {
    graph::Node* base = nullptr;
    std::shared_ptr<graph::Port> backing;
    std::vector<std::shared_ptr<graph::Port>> of_guests;
    std::vector<std::shared_ptr<graph::Port>> of_all;
  };
  const End end = engine_.threads.OnEngine([this] {
    End end;
    end.backing = graph::Graph::BackingPort(*image_);
    if (end.backing == nullptr) return end;
    // As it is by now: others may have changed the chain below.
    end.base = bottom_->backing();
    end.of_guests = engine_.graph.PortsAbove({image_});
    for (const graph::Edge* edge : image_->parents()) end.of_all.push_back(edge->port());
    return end;
  });
  if (end.backing == nullptr) return absl::OkStatus();
  // All that was copied is durable. From here to the change of the graph either chain is right.
  RETURN_IF_ERROR(Record(end.base));
  graph::Quiesce guests;
  guests.AddPatiently(end.of_guests, kInstantPatience);
  // A request that has looked for its cluster before that was copied up ends first: those of jobs
  // go on, and each way to the image is found empty once.
  for (const std::shared_ptr<graph::Port>& port : end.of_all) {
    port->Close();
    port->Open();
  }
  graph::Quiesce between({end.backing});
  absl::Status status;
  ChangeGraph(engine_.threads, engine_.graph, [&] {
    status = engine_.graph.ShortenBacking(image_, end.base);
    // As long as nobody can find and use them.
    removed_.push_back(engine_.graph.TakeOrphans());
  });
  return status;
}

void StreamLink::Release() {
  const std::vector<std::shared_ptr<graph::Port>> ports =
      engine_.threads.OnEngine([this] { return engine_.graph.PortsAbove({image_}); });
  {
    graph::Quiesce quiesce;
    quiesce.AddPatiently(ports, kInstantPatience);
    ChangeGraph(engine_.threads, engine_.graph, [this] { UnlinkAll(); });
  }
  CloseRemoved();
}

}  // namespace tidemark::native
