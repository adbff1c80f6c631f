#include "engine/native/jobs/backup_link.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/graph/copy_before_write.h"
#include "engine/graph/quiesce.h"
#include "engine/native/bitmap_memory.h"
#include "engine/native/freezing.h"
#include "engine/native/graph_change.h"
#include "engine/native/jobs/link_job.h"
#include "engine/native/jobs/target_reservation.h"
#include "engine/native/limits.h"

namespace tidemark::native {
namespace {

using graph::Operation;
using graph::OperationSet;

// How often a guest that waits for a reader of the target looks whether it waits too long.
constexpr absl::Duration kReadersLookAround = absl::Milliseconds(20);

// What a job forbids on its two nodes. Several backups of one source may run at once, and the
// target may be exported: that is fleecing.
constexpr OperationSet kForbiddenOnSource =
    Operation::kDelete | Operation::kMirrorSource | Operation::kMirrorTarget | Operation::kStream |
    Operation::kCommitSource | Operation::kCommitTarget | Operation::kBackupTarget;
constexpr OperationSet kForbiddenOnTarget = OperationSet::All() - Operation::kExport;

graph::BitmapSyncMode ToGraph(job::BitmapMode mode) {
  switch (mode) {
    case job::BitmapMode::kOnSuccess:
      return graph::BitmapSyncMode::kOnSuccess;
    case job::BitmapMode::kAlways:
      return graph::BitmapSyncMode::kAlways;
    case job::BitmapMode::kNever:
      return graph::BitmapSyncMode::kNever;
  }
  return graph::BitmapSyncMode::kOnSuccess;
}

// The node that holds what is written to `target`, below which is `source`: an image, if there is
// one on the way, and not what hands writes on to it.
graph::Node* HolderOf(graph::Node* target, const graph::Node* source) {
  graph::Node* node = target;
  while (node->backing() == nullptr) {
    graph::Node* const below =
        node->filtered() != nullptr ? node->filtered() : node->ChildInRole(graph::kRoleFile);
    if (below == nullptr || below == source || !below->Reaches(source)) break;
    node = below;
  }
  return node;
}

}  // namespace

absl::Status BackupLink::CheckSource() {
  ASSIGN_OR_RETURN(source_, engine_.graph.Find(request_.source_node));
  RETURN_IF_ERROR(engine_.graph.CheckNotBlocked(*source_, Operation::kBackupSource));
  RETURN_IF_ERROR(engine_.scheduler.Validate(request_.job));
  // Not whether the bitmap exists: an earlier action may be about to add it.
  return job::ValidateBitmapChoice(&request_.backup);
}

absl::Status BackupLink::Find() {
  ASSIGN_OR_RETURN(source_, engine_.graph.Find(request_.source_node));
  target_ = opened_target_;
  if (target_ == nullptr) {
    ASSIGN_OR_RETURN(target_, engine_.graph.Find(request_.target_node));
  }
  for (const graph::Node* node : {source_, target_}) {
    RETURN_IF_ERROR(CheckIsNoJobFilter(*node, request_.job.id));
  }
  RETURN_IF_ERROR(engine_.graph.CheckNotBlocked(*source_, Operation::kBackupSource));
  RETURN_IF_ERROR(engine_.graph.CheckNotBlocked(*target_, Operation::kBackupTarget));
  RETURN_IF_ERROR(engine_.scheduler.Validate(request_.job));
  if (source_ == target_) {
    return Error(Reason::kInvalidCombination,
                 absl::StrCat("cannot back up node \"", source_->name(), "\" to itself"),
                 {{"node", source_->name()}, {"job", request_.job.id}});
  }
  if (target_->read_only()) {
    return Error(Reason::kNodeReadOnly,
                 absl::StrCat("cannot back up \"", source_->name(), "\" to node \"",
                              target_->name(), "\": it is read-only"),
                 {{"node", target_->name()}, {"job", request_.job.id}});
  }
  return absl::OkStatus();
}

absl::Status BackupLink::CheckBitmap() {
  RETURN_IF_ERROR(job::ValidateBitmapChoice(&request_.backup));
  if (request_.backup.bitmap.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(bitmap_, source_->bitmaps().Find(request_.backup.bitmap));
  return source_->bitmaps().Check(*bitmap_, request_.backup.bitmap_mode == job::BitmapMode::kNever
                                                ? graph::BitmapUse::kRead
                                                : graph::BitmapUse::kModify);
}

void BackupLink::LookAtBitmap() {
  if (!copies_by_bitmap()) return;
  uint64_t unit_bytes = 0;
  const auto bits = engine_.threads.OnEngine([&]() -> std::shared_ptr<bitmap::DirtyBitmap> {
    const absl::StatusOr<graph::Node*> source = engine_.graph.Find(request_.source_node);
    if (!source.ok()) return nullptr;
    const absl::StatusOr<graph::Bitmap*> bitmap = (*source)->bitmaps().Find(request_.backup.bitmap);
    graph::Node* target = opened_target_;
    if (target == nullptr) target = engine_.graph.Find(request_.target_node).value_or(nullptr);
    if (!bitmap.ok() || target == nullptr) return nullptr;
    unit_bytes = job::BackupJob::UnitBytes(request_.backup, target->storage()->limits());
    return (*bitmap)->bits();
  });
  if (bits == nullptr) return;
  absl::StatusOr<std::unique_ptr<bitmap::EarlyCopy>> early =
      bitmap::EarlyCopy::Make(*bits, unit_bytes);
  if (early.ok()) early_bits_ = *std::move(early);
}

graph::AttachRequest BackupLink::TargetUse() const {
  return UseAsTarget(absl::StrCat("block job '", request_.job.id, "'"));
}

absl::Status BackupLink::AttachNodes() {
  const std::string user = absl::StrCat("block job '", request_.job.id, "'");
  // Two of them: guests may be led elsewhere by a snapshot, and the job goes on with what it has.
  graph::AttachRequest use = {.user = user,
                              .role = graph::kRoleSource,
                              .permissions = {.used = storage::kPermissionConsistentRead},
                              .gated = false};
  ASSIGN_OR_RETURN(source_edge_, engine_.graph.Attach(source_, use));
  ASSIGN_OR_RETURN(filtered_edge_, engine_.graph.Attach(source_, std::move(use)));
  ASSIGN_OR_RETURN(target_edge_, engine_.graph.Attach(target_, TargetUse()));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<job::BackupJob>> BackupLink::MakeJob(
    std::shared_ptr<BackupLink> self) {
  job::BackupParts parts;
  parts.source = source_edge_->port();
  parts.target = target_edge_->port();
  parts.source_node = source_->name();
  parts.target_node = target_->name();
  if (copies_by_bitmap()) parts.bits = bitmap_->bits().get();
  parts.early_bits = early_bits_.get();
  parts.target_is_zero = target_is_empty_;
  // In any role: the target may be a raw node over an overlay of the source.
  parts.target_shows_source = target_->Reaches(source_);
  if (parts.target_shows_source) ShareTargetReads(&parts);
  parts.workers = {.guest = guest_share_.get(),
                   .io = target_share_.get(),
                   .source_io = source_share_.get(),
                   .watch = engine_.threads.watch(),
                   .memory = &engine_.budgets.copy_memory};
  parts.clock = &engine_.clock;
  job::CopyHooks hooks;
  hooks.commit = [self](const bitmap::DirtyBitmap& not_copied) { self->End(true, not_copied); };
  hooks.abort = [self](const bitmap::DirtyBitmap& not_copied) { self->End(false, not_copied); };
  hooks.clean = [self] { self->Release(); };
  return job::BackupJob::Make(request_.backup, std::move(parts), std::move(hooks));
}

void BackupLink::ShareTargetReads(job::BackupParts* parts) {
  const graph::Node* const holder = HolderOf(target_, source_);
  target_reads_ = holder->shared_reads();
  target_reads_->Begin(this);
  // The target may be a window on the holder. Then all of it is waited for.
  const uint64_t holder_bytes = holder->storage()->size_bytes();
  const bool same = holder_bytes == target_->storage()->size_bytes();
  parts->await_target_reads = [reads = target_reads_, holder_bytes, same](
                                  Range range, const std::function<bool()>& gives_up) {
    return reads->Await(same ? range : Range{0, holder_bytes}, kReadersLookAround, gives_up);
  };
}

absl::Status BackupLink::AddFilter(const job::BackupJob& job) {
  if (target_reads_ != nullptr) {
    target_reads_->SetCheck(this, [weak = std::weak_ptr<copy::BlockCopy>(job.copy())] {
      const std::shared_ptr<copy::BlockCopy> copy = weak.lock();
      return copy == nullptr || copy->shows_instant();
    });
  }
  auto driver = std::make_shared<graph::CopyBeforeWriteDriver>(filtered_edge_->port(), job.copy());
  return filter_.Insert(std::exchange(filtered_edge_, nullptr),
                        {.user = absl::StrCat("block job '", request_.job.id, "'"),
                         .node_name = request_.filter_node_name,
                         .driver = std::move(driver),
                         .policy = graph::ChildPolicy::kCopyBeforeWrite});
}

absl::Status BackupLink::LinkSteps(std::shared_ptr<BackupLink> self) {
  RETURN_IF_ERROR(Find());
  RETURN_IF_ERROR(CheckBitmap());
  RETURN_IF_ERROR(AttachNodes());
  ASSIGN_OR_RETURN(job_, MakeJob(std::move(self)));
  RETURN_IF_ERROR(CountBitsOfCopy(engine_, source_, request_.job.id, this, job_->copy()));
  RETURN_IF_ERROR(AddFilter(*job_));
  if (bitmap_ != nullptr) {
    source_->bitmaps().CreateSuccessor(bitmap_);
    has_successor_ = true;
  }
  const std::string reason = absl::StrCat("in use by block job '", request_.job.id, "' (backup)");
  source_block_ = engine_.graph.Block(source_, kForbiddenOnSource, reason);
  target_block_ = engine_.graph.Block(target_, kForbiddenOnTarget, reason);
  return absl::OkStatus();
}

absl::Status BackupLink::Link(std::shared_ptr<BackupLink> self) {
  absl::Status status = LinkSteps(std::move(self));
  if (!status.ok()) UnlinkAll();
  return status;
}

absl::Status BackupLink::CreateJob(std::shared_ptr<job::JobGroup> group) {
  return CreateLinkedJob(engine_, this, std::move(job_), std::move(group),
                         {source_->name(), target_->name()});
}

void BackupLink::RemoveFilter() {
  if (target_reads_ != nullptr) std::exchange(target_reads_, nullptr)->End(this);
  filter_.Remove(&removed_);
}

void BackupLink::Detach() {
  if (source_edge_ != nullptr) source_->bitmaps().CountNoMore(this);
  if (source_block_.has_value()) engine_.graph.Unblock(source_, *source_block_);
  if (target_block_.has_value()) engine_.graph.Unblock(target_, *target_block_);
  source_block_ = target_block_ = absl::nullopt;
  if (source_edge_ != nullptr) engine_.graph.Detach(std::exchange(source_edge_, nullptr));
  if (filtered_edge_ != nullptr) engine_.graph.Detach(std::exchange(filtered_edge_, nullptr));
  if (target_edge_ != nullptr) engine_.graph.Detach(std::exchange(target_edge_, nullptr));
  // Somebody may export it: then it stays until they are done.
  if (opened_target_ != nullptr) {
    engine_.graph.LeaveToUsers(std::exchange(opened_target_, nullptr));
  }
  removed_.push_back(engine_.graph.TakeOrphans());
}

void BackupLink::UnlinkAll() {
  if (has_successor_) source_->bitmaps().UndoSuccessor(bitmap_);
  has_successor_ = false;
  RemoveFilter();
  Detach();
}

void BackupLink::CloseRemoved() {
  // What the bitmap says was copied had been flushed before, with all that leads to it.
  CloseRemovedByJob(engine_, request_.job.id, &removed_);
  job_ = nullptr;  // It was not created after all.
}

void BackupLink::End(bool success, const bitmap::DirtyBitmap& not_copied) {
  const std::vector<std::shared_ptr<graph::Port>> ports =
      engine_.threads.OnEngine([this] { return engine_.graph.PortsAbove({source_}); });
  // Those above the target, who may wait for it, are among them if it shows the source.
  graph::Quiesce quiesce;
  quiesce.AddPatiently(ports, kInstantPatience);
  ChangeGraph(engine_.threads, engine_.graph, [&] {
    if (has_successor_) {
      source_->bitmaps().HandOver(bitmap_, ToGraph(*request_.backup.bitmap_mode), success,
                                  &not_copied);
      has_successor_ = false;
    }
    RemoveFilter();
  });
}

void BackupLink::Release() {
  // A snapshot may have waited for the bitmap.
  if (source_ != nullptr) FinishFreezing(engine_, source_);
  ChangeGraph(engine_.threads, engine_.graph, [this] { Detach(); });
  CloseRemoved();
}

}  // namespace tidemark::native
