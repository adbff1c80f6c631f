#include "engine/native/jobs/mirror_link.h"

#include <algorithm>
#include <cstdio>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/copy/mirror_filter.h"
#include "engine/graph/quiesce.h"
#include "engine/native/bitmap_memory.h"
#include "engine/native/drivers/file_driver.h"
#include "engine/native/graph_change.h"
#include "engine/native/job_writes.h"
#include "engine/native/jobs/job_convert.h"
#include "engine/native/jobs/link_job.h"
#include "engine/native/jobs/port_hold.h"
#include "engine/native/jobs/target_reservation.h"
#include "engine/native/limits.h"

namespace tidemark::native {
namespace {

using graph::Operation;
using graph::OperationSet;

// What the job forbids on its two nodes. The source may go on being exported, and gain exports.
constexpr OperationSet kForbiddenOnSource = OperationSet::All() - Operation::kExport;
constexpr OperationSet kForbiddenOnTarget = OperationSet::All();

// As QEMU chooses it.
constexpr uint64_t kGranularityBytesMin = 4096;
constexpr uint64_t kGranularityBytesMax = 65536;

std::string UserOf(const MirrorRequest& request) {
  return absl::StrCat("block job '", request.job.id, "'");
}

uint64_t GranularityFor(const MirrorRequest& request, const storage::Limits& target) {
  if (request.granularity_bytes != 0) return request.granularity_bytes;
  if (target.cluster_size_bytes == 0) return kGranularityBytesMax;
  return std::clamp<uint64_t>(target.cluster_size_bytes, kGranularityBytesMin,
                              kGranularityBytesMax);
}

absl::Status CheckSync(const MirrorRequest& request) {
  const bool by_bitmap = request.sync == job::SyncMode::kIncremental;
  if (!by_bitmap && request.sync != job::SyncMode::kBitmap) return absl::OkStatus();
  return Error(Reason::kInvalidField,
               absl::StrCat("mirror job '", request.job.id, "': sync mode '",
                            by_bitmap ? "incremental" : "bitmap",
                            "' is not supported: use full, top or none"),
               {{"field", "sync"}, {"job", request.job.id}});
}

// What the two requests have in common, which is all but the target.
template <typename Request>
MirrorRequest CommonFromProto(const Request& request) {
  MirrorRequest mirror;
  mirror.job = JobOptionsOf(request, job::JobType::kMirror);
  mirror.job.on_source_error = native::FromProto(request.on_source_error());
  mirror.job.on_target_error = native::FromProto(request.on_target_error());
  mirror.source_node = request.device();
  if (request.has_replaces()) mirror.replaces = request.replaces();
  mirror.sync = native::FromProto(request.sync());
  if (request.copy_mode() == block::v1::MIRROR_COPY_MODE_WRITE_BLOCKING) {
    mirror.copy_mode = job::CopyMode::kWriteBlocking;
  }
  mirror.granularity_bytes = request.granularity();
  mirror.in_flight_bytes_max = static_cast<uint64_t>(request.buf_size());
  return mirror;
}

}  // namespace

MirrorRequest FromProto(const block::v1::BlockdevMirrorRequest& request) {
  MirrorRequest mirror = CommonFromProto(request);
  mirror.target_node = request.target();
  mirror.filter_node_name = request.filter_node_name();
  return mirror;
}

MirrorRequest FromProto(const block::v1::DriveMirrorRequest& request) {
  MirrorRequest mirror = CommonFromProto(request);
  mirror.target_file = DriveTarget{.path = request.target(),
                                   .format = request.format(),
                                   .existing = request.mode() == block::v1::NEW_IMAGE_MODE_EXISTING,
                                   .node_name = request.node_name()};
  mirror.unmap = !request.has_unmap() || request.unmap();
  return mirror;
}

// ---- The beginning ----

absl::Status MirrorLink::FindReplaced() {
  if (!request_.replaces.has_value()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const graph::Node* const replaced, engine_.graph.Find(*request_.replaces));
  if (replaced == source_) return absl::OkStatus();
  // QEMU allows a child of a filter or a quorum that shows exactly what the source shows.
  return Error(
      Reason::kInvalidCombination,
      absl::StrCat("node '", replaced->name(), "' cannot be replaced by a mirror of node '",
                   source_->name(), "': what it shows could change abruptly"),
      {{"node", replaced->name()}, {"source", source_->name()}});
}

absl::Status MirrorLink::CheckSource() {
  ASSIGN_OR_RETURN(source_, engine_.graph.Find(request_.source_node));
  RETURN_IF_ERROR(engine_.graph.CheckNotBlocked(*source_, Operation::kMirrorSource));
  RETURN_IF_ERROR(engine_.scheduler.Validate(request_.job));
  RETURN_IF_ERROR(CheckNoJobWrites(*source_));
  RETURN_IF_ERROR(CheckSync(request_));
  return FindReplaced();
}

absl::Status MirrorLink::OpenTarget() {
  if (!request_.target_file.has_value()) return absl::OkStatus();
  // What can be refused without touching a file is refused before one is made.
  RETURN_IF_ERROR(engine_.threads.OnEngine([this]() -> absl::Status {
    RETURN_IF_ERROR(CheckSource());
    if (request_.target_file->node_name.empty()) return absl::OkStatus();
    return engine_.graph.CheckNewName(request_.target_file->node_name);
  }));
  ASSIGN_OR_RETURN(opened_target_, OpenDriveTarget(engine_, *request_.target_file,
                                                   {.command = "drive-mirror",
                                                    .verb = "mirror",
                                                    .job_id = request_.job.id,
                                                    .source_node = request_.source_node,
                                                    .takes_place = true},
                                                   &request_.sync));
  return absl::OkStatus();
}

absl::StatusOr<graph::Node*> MirrorLink::FindTarget() const {
  if (opened_target_ != nullptr) return opened_target_;
  return engine_.graph.Find(request_.target_node);
}

absl::Status MirrorLink::Find() {
  ASSIGN_OR_RETURN(source_, engine_.graph.Find(request_.source_node));
  ASSIGN_OR_RETURN(target_, FindTarget());
  for (const graph::Node* node : {source_, target_}) {
    RETURN_IF_ERROR(CheckIsNoJobFilter(*node, request_.job.id));
  }
  if (source_ == target_) {
    return Error(Reason::kInvalidCombination,
                 absl::StrCat("cannot mirror node '", source_->name(), "' into itself"),
                 {{"node", source_->name()}, {"job", request_.job.id}});
  }
  RETURN_IF_ERROR(CheckSource());
  RETURN_IF_ERROR(engine_.graph.CheckNotBlocked(*target_, Operation::kMirrorTarget));
  if (target_->read_only()) {
    return Error(Reason::kNodeReadOnly,
                 absl::StrCat("cannot mirror node '", source_->name(), "' to node '",
                              target_->name(), "': it is read-only"),
                 {{"node", target_->name()}, {"job", request_.job.id}});
  }
  if (source_->Reaches(target_)) {
    return Error(Reason::kInvalidCombination,
                 absl::StrCat("cannot mirror node '", source_->name(), "' to node '",
                              target_->name(), "', which it uses itself"),
                 {{"node", target_->name()}, {"job", request_.job.id}});
  }
  const auto other =
      std::find_if(target_->parents().begin(), target_->parents().end(),
                   [this](const graph::Edge* edge) { return edge->User() != UserOf(request_); });
  if (other == target_->parents().end()) return absl::OkStatus();
  const std::string user = (*other)->User();
  return Error(Reason::kNodeBusy,
               absl::StrCat("node '", target_->name(), "' cannot be the target of mirror job '",
                            request_.job.id, "': it is in use by ", user),
               {{"node", target_->name()}, {"user", user}});
}

graph::AttachRequest MirrorLink::TargetUse() const { return UseAsTarget(UserOf(request_)); }

absl::Status MirrorLink::Attach() {
  graph::AttachRequest use = {.user = UserOf(request_),
                              .role = graph::kRoleSource,
                              .permissions = {.used = storage::kPermissionConsistentRead},
                              .gated = false};
  ASSIGN_OR_RETURN(source_edge_, engine_.graph.Attach(source_, use));
  ASSIGN_OR_RETURN(filtered_edge_, engine_.graph.Attach(source_, std::move(use)));
  ASSIGN_OR_RETURN(target_edge_, engine_.graph.Attach(target_, TargetUse()));
  return absl::OkStatus();
}

absl::Status MirrorLink::RecordChanges() {
  const uint64_t granularity_bytes = GranularityFor(request_, target_->storage()->limits());
  absl::StatusOr<graph::Bitmap*> changes =
      source_->bitmaps().AddAnonymous(granularity_bytes, /*enabled=*/true);
  if (!changes.ok()) {
    return Annotate(changes.status(),
                    absl::StrCat("mirror job '", request_.job.id,
                                 "' cannot record what changes at node '", source_->name(), "'"));
  }
  changes_ = *changes;
  // One who uses it, so that nobody takes it for what it is not.
  source_->bitmaps().BeginUse(changes_);
  if (request_.sync != job::SyncMode::kNone) changes_->bits()->SetAll();
  return absl::OkStatus();
}

absl::Status MirrorLink::MakeJob(std::shared_ptr<MirrorLink> self) {
  job::MirrorParts parts;
  parts.source_node = source_->name();
  parts.target_node = target_->name();
  parts.source = source_edge_->port();
  parts.target = target_edge_->port();
  parts.dirty = changes_->bits();
  parts.only_top_layer = request_.sync == job::SyncMode::kTop;
  parts.copy_mode = request_.copy_mode;
  parts.zeroes_may_unmap = request_.unmap;
  parts.in_flight_bytes_max = request_.in_flight_bytes_max;
  parts.workers = {.io = target_share_.get(),
                   .source_io = source_share_.get(),
                   .watch = engine_.threads.watch(),
                   .memory = &engine_.budgets.copy_memory};
  parts.clock = &engine_.clock;
  job::MirrorHooks hooks;
  hooks.hold_guests = [self] { return std::make_unique<PortHold>(self->GuestPorts()); };
  hooks.prepare = [self](job::Ending ending) { return self->CheckPivot(ending); };
  hooks.commit = [self](job::Ending ending) { self->End(ending); };
  hooks.clean = [self] { self->Release(); };
  job_ = job::MirrorJob::Make(std::move(parts), std::move(hooks));
  copy_ = job_->copy();
  return absl::OkStatus();
}

absl::Status MirrorLink::AddFilter() {
  auto driver = std::make_shared<PlainDriver>(
      "mirror_top", source_->driver().filename(),
      std::make_shared<copy::MirrorFilterStorage>(filtered_edge_->port(), copy_),
      /*is_filter=*/true);
  return filter_.Insert(std::exchange(filtered_edge_, nullptr),
                        {.user = UserOf(request_),
                         .node_name = request_.filter_node_name,
                         .driver = std::move(driver)});
}

absl::Status MirrorLink::LinkSteps(std::shared_ptr<MirrorLink> self) {
  RETURN_IF_ERROR(Find());
  RETURN_IF_ERROR(Attach());
  RETURN_IF_ERROR(RecordChanges());
  RETURN_IF_ERROR(MakeJob(std::move(self)));
  RETURN_IF_ERROR(CountBitsOfCopy(engine_, source_, request_.job.id, this, copy_));
  RETURN_IF_ERROR(AddFilter());
  const std::string reason = absl::StrCat("in use by block job '", request_.job.id, "' (mirror)");
  blocks_.emplace_back(source_, engine_.graph.Block(source_, kForbiddenOnSource, reason));
  blocks_.emplace_back(target_, engine_.graph.Block(target_, kForbiddenOnTarget, reason));
  return absl::OkStatus();
}

absl::Status MirrorLink::Link(std::shared_ptr<MirrorLink> self) {
  absl::Status status = LinkSteps(std::move(self));
  if (!status.ok()) UnlinkAll();
  return status;
}

absl::Status MirrorLink::CreateJob() {
  return CreateLinkedJob(engine_, this, std::move(job_), nullptr,
                         {source_->name(), target_->name()});
}

void MirrorLink::LetGo() {
  filter_.Remove(&removed_);
  if (source_edge_ != nullptr) source_->bitmaps().CountNoMore(this);
  for (const auto& [node, id] : std::exchange(blocks_, {})) engine_.graph.Unblock(node, id);
  for (graph::Edge** edge : {&source_edge_, &filtered_edge_, &target_edge_}) {
    if (*edge != nullptr) engine_.graph.Detach(std::exchange(*edge, nullptr));
  }
  if (changes_ != nullptr) {
    source_->bitmaps().EndUse(changes_);
    source_->bitmaps().DropAnonymous(std::exchange(changes_, nullptr));
  }
  if (opened_target_ != nullptr) {
    engine_.graph.LeaveToUsers(std::exchange(opened_target_, nullptr));
  }
}

void MirrorLink::UnlinkAll() {
  LetGo();
  removed_.push_back(engine_.graph.TakeOrphans());
}

void MirrorLink::CloseRemoved() {
  CloseRemovedByJob(engine_, request_.job.id, &removed_);
  job_ = nullptr;  // It was not created after all.
  copy_ = nullptr;
}

// ---- The end ----

std::vector<std::shared_ptr<graph::Port>> MirrorLink::GuestPorts() {
  return engine_.threads.OnEngine([this] { return engine_.graph.PortsAbove({source_}); });
}

bool MirrorLink::Pivots(const graph::Edge& edge) const {
  return edge.parent() == nullptr ? edge.gated() : !target_->Reaches(edge.parent());
}

absl::Status MirrorLink::CheckPivot(job::Ending ending) {
  if (ending != job::Ending::kComplete) return absl::OkStatus();
  absl::Status status;
  // There and back: the users are those of the filter still.
  ChangeGraph(engine_.threads, engine_.graph, [&] {
    // Guests that were held for too long are let go on this thread, and the copy is stopped with
    // it: their ports are open then.
    if (copy_->is_stopped()) {
      status = absl::CancelledError("the mirror was stopped");
      return;
    }
    absl::flat_hash_set<const graph::Edge*> moved;
    status = engine_.graph.Replace(filter_.node(), target_, [&](const graph::Edge& edge) {
      return Pivots(edge) && moved.insert(&edge).second;
    });
    if (!status.ok()) return;
    engine_.graph
        .Replace(target_, filter_.node(),
                 [&](const graph::Edge& edge) { return moved.contains(&edge); })
        .IgnoreError();  // They were there a moment ago.
  });
  return Annotate(status, absl::StrCat("the users of node '", source_->name(),
                                       "' cannot be led to node '", target_->name(), "'"));
}

void MirrorLink::End(job::Ending ending) {
  // Those who have come since the guests were held, too, with what they have changed meanwhile.
  graph::Quiesce quiesce;
  quiesce.AddPatiently(GuestPorts(), kInstantPatience);
  absl::Status status;
  // Hardly ever: they wait for the target meanwhile, and nothing limits that any more.
  if (!copy_->is_in_sync()) status = copy_->CatchUp();
  copy_->Finish();
  ChangeGraph(engine_.threads, engine_.graph, [&] {
    LetGo();
    if (ending == job::Ending::kComplete && status.ok()) {
      status = engine_.graph.Replace(source_, target_,
                                     [this](const graph::Edge& edge) { return Pivots(edge); });
    }
    removed_.push_back(engine_.graph.TakeOrphans());
  });
  if (status.ok()) return;
  // It takes somebody who has changed the graph since CheckPivot, or has written since the last
  // step to a target that failed in that moment.
  std::fprintf(stderr, "tidemark: job '%s': the users of node '%s' stay with it: %s\n",
               request_.job.id.c_str(), request_.source_node.c_str(),
               std::string(status.message()).c_str());
}

void MirrorLink::Release() {
  graph::Quiesce quiesce;
  if (filter_.is_inserted()) quiesce.AddPatiently(GuestPorts(), kInstantPatience);
  ChangeGraph(engine_.threads, engine_.graph, [this] { UnlinkAll(); });
  quiesce.Open();
  CloseRemoved();
}

}  // namespace tidemark::native
