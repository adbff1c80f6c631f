#include "engine/native/backup_action.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/graph/copy_before_write.h"
#include "engine/graph/quiesce.h"
#include "engine/job/backup_job.h"
#include "engine/native/job_convert.h"

namespace tidemark::native {
namespace {

using graph::Operation;
using graph::OperationSet;

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

// Whether what `target` does not hold itself is read from `source`.
bool ShowsSource(const graph::Node& target, const graph::Node& source) {
  for (const graph::Node* node = &target; node != nullptr;) {
    node = node->filtered() != nullptr ? node->filtered() : node->backing();
    if (node == &source) return true;
  }
  return false;
}

// What a running backup holds of graph and bitmaps. Shared by the action, which may undo it, and
// the job's hooks, which end it. Engine thread, but for the methods that say otherwise.
class BackupLink {
 public:
  BackupLink(Engine* engine, BackupRequest request)
      : engine_(*engine), request_(std::move(request)) {}

  const BackupRequest& request() const { return request_; }
  BackupRequest& mutable_request() { return request_; }
  // What drive-backup has opened: closed when the backup is over or undone.
  void set_opened_target(graph::Node* target) { opened_target_ = target; }
  graph::Node* opened_target() const { return opened_target_; }
  // The target holds nothing at all, and nothing is to be below it.
  void set_target_is_empty(bool is_empty) { target_is_empty_ = is_empty; }

  // What can be refused before a target is made. Engine thread.
  absl::Status CheckSource();
  // Checks everything and links it: edges, filter, bitmap, job. The gates above the source are
  // closed. On a refusal nothing is left linked, but for a filter node in `removed()`.
  absl::Status Link(std::shared_ptr<BackupLink> self, std::shared_ptr<job::JobGroup> group);

  // Takes the filter away and, if there is a bitmap, hands it over. Graph-command worker.
  void End(bool success, const bitmap::DirtyBitmap& not_copied);
  // Lets go of the nodes. Graph-command worker.
  void Release();

  // The gates are closed.
  void UnlinkAll();
  // Closes what UnlinkAll took out. Graph-command worker.
  void CloseRemoved();

 private:
  absl::Status Find();
  absl::Status CheckBitmap();
  absl::Status AttachNodes();
  absl::Status AddFilter(const job::BackupJob& job);
  absl::StatusOr<std::unique_ptr<job::BackupJob>> MakeJob(std::shared_ptr<BackupLink> self);
  absl::Status LinkSteps(std::shared_ptr<BackupLink> self, std::shared_ptr<job::JobGroup> group);
  void RemoveFilter();
  void Detach();

  Engine& engine_;
  BackupRequest request_;
  // Opened by drive-backup.
  graph::Node* opened_target_ = nullptr;
  bool target_is_empty_ = false;

  graph::Node* source_ = nullptr;
  graph::Node* target_ = nullptr;
  graph::Bitmap* bitmap_ = nullptr;
  bool has_successor_ = false;
  // Taken over by the filter once that exists.
  graph::Edge* source_edge_ = nullptr;
  graph::Edge* target_edge_ = nullptr;
  graph::Node* filter_ = nullptr;
  // Keeps others from writing below the filter, also when nobody else uses it.
  graph::Edge* filter_edge_ = nullptr;
  bool filter_inserted_ = false;
  absl::optional<uint64_t> source_block_;
  absl::optional<uint64_t> target_block_;
  // The filter: out of the graph, to be closed.
  std::vector<graph::RemovedNodes> removed_;
};

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
    if (node->filtered() == nullptr) continue;
    return Error(Reason::kNodeBusy,
                 absl::StrCat("node '", node->name(),
                              "' is the filter of another job, and goes when that ends"),
                 {{"node", node->name()}, {"job", request_.job.id}});
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

absl::Status BackupLink::AttachNodes() {
  const std::string user = absl::StrCat("block job '", request_.job.id, "'");
  ASSIGN_OR_RETURN(
      source_edge_,
      engine_.graph.Attach(source_, {.user = user,
                                     .role = graph::kRoleSource,
                                     .permissions = {.used = storage::kPermissionConsistentRead}}));
  // Shared for writing, because the source may be among its backing images; not for resizing.
  ASSIGN_OR_RETURN(
      target_edge_,
      engine_.graph.Attach(target_, {.user = user,
                                     .role = graph::kRoleTarget,
                                     .permissions = {.used = storage::kPermissionWrite,
                                                     .shared = storage::kPermissionAll &
                                                               ~storage::kPermissionResize},
                                     // A guest may wait for the target to take old data.
                                     .gated = false}));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<job::BackupJob>> BackupLink::MakeJob(
    std::shared_ptr<BackupLink> self) {
  job::BackupParts parts;
  parts.source = source_edge_->port();
  parts.target = target_edge_->port();
  parts.source_node = source_->name();
  parts.target_node = target_->name();
  const bool by_bitmap = request_.backup.sync == job::SyncMode::kBitmap ||
                         request_.backup.sync == job::SyncMode::kIncremental;
  if (by_bitmap) parts.bits = bitmap_->bits().get();
  parts.target_is_zero = target_is_empty_;
  parts.target_shows_source = ShowsSource(*target_, *source_);
  parts.workers = {.guest = &engine_.threads.guest(), .io = &engine_.threads.io()};
  parts.clock = &engine_.clock;
  job::BackupHooks hooks;
  hooks.commit = [self](const bitmap::DirtyBitmap& not_copied) { self->End(true, not_copied); };
  hooks.abort = [self](const bitmap::DirtyBitmap& not_copied) { self->End(false, not_copied); };
  hooks.clean = [self] { self->Release(); };
  return job::BackupJob::Make(request_.backup, std::move(parts), std::move(hooks));
}

absl::Status BackupLink::AddFilter(const job::BackupJob& job) {
  graph::NodeSpec spec;
  spec.name = request_.filter_node_name;
  spec.driver = std::make_shared<graph::CopyBeforeWriteDriver>(source_edge_->port(), job.copy());
  spec.options.discard = graph::DiscardMode::kUnmap;  // The source decides.
  spec.options.read_only = source_->read_only();
  spec.ownership = graph::Ownership::kEngine;
  spec.children.push_back({.edge = source_edge_,
                           .role = graph::kRoleFile,
                           .policy = graph::ChildPolicy::kCopyBeforeWrite});
  ASSIGN_OR_RETURN(filter_, engine_.graph.AddNode(std::move(spec)));
  source_edge_ = nullptr;
  RETURN_IF_ERROR(engine_.graph.InsertFilter(filter_, source_));
  filter_inserted_ = true;
  ASSIGN_OR_RETURN(
      filter_edge_,
      engine_.graph.Attach(filter_, {.user = absl::StrCat("block job '", request_.job.id, "'"),
                                     .permissions = {.shared = storage::kPermissionAll &
                                                               ~storage::kPermissionResize},
                                     .gated = false}));
  return absl::OkStatus();
}

absl::Status BackupLink::LinkSteps(std::shared_ptr<BackupLink> self,
                                   std::shared_ptr<job::JobGroup> group) {
  RETURN_IF_ERROR(Find());
  RETURN_IF_ERROR(CheckBitmap());
  RETURN_IF_ERROR(AttachNodes());
  ASSIGN_OR_RETURN(std::unique_ptr<job::BackupJob> job, MakeJob(std::move(self)));
  RETURN_IF_ERROR(AddFilter(*job));
  if (bitmap_ != nullptr) {
    source_->bitmaps().CreateSuccessor(bitmap_);
    has_successor_ = true;
  }
  const std::string reason = absl::StrCat("in use by block job '", request_.job.id, "' (backup)");
  source_block_ = engine_.graph.Block(source_, kForbiddenOnSource, reason);
  target_block_ = engine_.graph.Block(target_, kForbiddenOnTarget, reason);
  engine_.job_events.SetNodes(request_.job.id, {source_->name(), target_->name()});
  absl::Status status = engine_.scheduler.Create(request_.job, std::move(job), std::move(group));
  if (!status.ok()) engine_.job_events.ForgetNodes(request_.job.id);
  return status;
}

absl::Status BackupLink::Link(std::shared_ptr<BackupLink> self,
                              std::shared_ptr<job::JobGroup> group) {
  absl::Status status = LinkSteps(std::move(self), std::move(group));
  if (!status.ok()) UnlinkAll();
  return status;
}

void BackupLink::RemoveFilter() {
  if (!filter_inserted_) return;
  if (filter_edge_ != nullptr) engine_.graph.Detach(std::exchange(filter_edge_, nullptr));
  const absl::Status status = engine_.graph.RemoveFilter(filter_);
  // Giving users back what they had before needs no new permission.
  CHECK(status.ok());
  filter_inserted_ = false;
}

void BackupLink::Detach() {
  if (filter_ != nullptr) {
    removed_.push_back(engine_.graph.RemoveNode(std::exchange(filter_, nullptr)));
  }
  if (source_block_.has_value()) engine_.graph.Unblock(source_, *source_block_);
  if (target_block_.has_value()) engine_.graph.Unblock(target_, *target_block_);
  source_block_ = target_block_ = absl::nullopt;
  if (source_edge_ != nullptr) engine_.graph.Detach(std::exchange(source_edge_, nullptr));
  if (target_edge_ != nullptr) engine_.graph.Detach(std::exchange(target_edge_, nullptr));
  // Somebody may export it: then it stays until they are done.
  if (opened_target_ != nullptr) {
    engine_.graph.LeaveToUsers(std::exchange(opened_target_, nullptr));
  }
}

void BackupLink::UnlinkAll() {
  if (has_successor_) source_->bitmaps().UndoSuccessor(bitmap_);
  has_successor_ = false;
  RemoveFilter();
  Detach();
}

void BackupLink::CloseRemoved() {
  for (graph::RemovedNodes& removed : removed_) {
    removed.Close().IgnoreError();  // A filter holds nothing.
    engine_.threads.OnEngine([&] { engine_.graph.Unlink(&removed); });
  }
  removed_.clear();
  // Of a target that was used the job has flushed the data.
  engine_.opener.CloseOrphans().IgnoreError();
}

void BackupLink::End(bool success, const bitmap::DirtyBitmap& not_copied) {
  std::vector<std::shared_ptr<graph::Port>> ports =
      engine_.threads.OnEngine([this] { return engine_.graph.PortsAbove({source_}); });
  graph::Quiesce quiesce(std::move(ports));
  engine_.threads.OnEngine([&] {
    if (has_successor_) {
      source_->bitmaps().HandOver(bitmap_, ToGraph(*request_.backup.bitmap_mode), success,
                                  &not_copied);
      has_successor_ = false;
    }
    RemoveFilter();
  });
}

void BackupLink::Release() {
  engine_.threads.OnEngine([this] { Detach(); });
  CloseRemoved();
}

// Whether nothing was ever written to the disk: it takes no space, and reads as zeroes without any
// backing image's help.
bool IsEmpty(storage::Storage& disk) {
  if (!disk.limits().new_ranges_are_zero) return false;
  const uint64_t size_bytes = disk.size_bytes();
  for (uint64_t at = 0; at < size_bytes;) {
    const absl::StatusOr<storage::Extent> extent = disk.Map(Range::FromTo(at, size_bytes));
    if (!extent.ok() || extent->content != storage::Extent::Content::kZero ||
        (extent->depth != 0 && !extent->hole)) {
      return false;
    }
    at = extent->range.end_bytes();
  }
  return true;
}

class BackupAction final : public transaction::Action {
 public:
  BackupAction(Engine* engine, BackupRequest request, std::shared_ptr<job::JobGroup> group)
      : engine_(*engine),
        link_(std::make_shared<BackupLink>(engine, std::move(request))),
        group_(std::move(group)) {}

  ~BackupAction() override {
    // Opened, and never linked: another action was refused first.
    if (link_->opened_target() != nullptr && !prepared_) link_->Release();
  }

  absl::Status Open() override {
    BackupRequest& request = link_->mutable_request();
    if (request.target_file.has_value()) RETURN_IF_ERROR(OpenTarget(request));
    // Zeroes need not be written to an empty target. Only of a full backup is it known that it will
    // stand alone: an incremental one may be given a backing file later, and then its zeroes must
    // be its own.
    if (request.backup.sync == job::SyncMode::kFull) link_->set_target_is_empty(TargetIsEmpty());
    return absl::OkStatus();
  }

  absl::Status Prepare() override {
    absl::Status status = engine_.threads.OnEngine([this] { return link_->Link(link_, group_); });
    if (!status.ok()) {
      link_->CloseRemoved();
      return status;
    }
    prepared_ = true;
    return absl::OkStatus();
  }

  void Commit() override {
    engine_.threads.OnEngine([this] { engine_.scheduler.Start(link_->request().job.id); });
  }

  void Undo() override {
    // Destroyed here, where that may block.
    const std::unique_ptr<job::Job> job = engine_.threads.OnEngine([this] {
      std::unique_ptr<job::Job> undone = engine_.scheduler.Undo(link_->request().job.id);
      link_->UnlinkAll();
      return undone;
    });
    link_->CloseRemoved();
  }

 private:
  absl::Status OpenTarget(BackupRequest& request) {
    // What can be refused without touching a file is refused before one is made.
    RETURN_IF_ERROR(engine_.threads.OnEngine([this] { return link_->CheckSource(); }));
    ASSIGN_OR_RETURN(
        graph::Node* const target,
        OpenDriveTarget(engine_, request.source_node, *request.target_file, &request.backup.sync));
    link_->set_opened_target(target);
    return absl::OkStatus();
  }

  bool TargetIsEmpty() {
    const auto disk = engine_.threads.OnEngine([this]() -> std::shared_ptr<storage::Storage> {
      if (link_->opened_target() != nullptr) return link_->opened_target()->storage();
      const absl::StatusOr<graph::Node*> node = engine_.graph.Find(link_->request().target_node);
      return node.ok() ? (*node)->storage() : nullptr;
    });
    return disk != nullptr && IsEmpty(*disk);
  }

  Engine& engine_;
  const std::shared_ptr<BackupLink> link_;
  const std::shared_ptr<job::JobGroup> group_;
  bool prepared_ = false;
};

job::SyncMode FromProto(block::v1::MirrorSyncMode sync) {
  switch (sync) {
    case block::v1::MIRROR_SYNC_MODE_TOP:
      return job::SyncMode::kTop;
    case block::v1::MIRROR_SYNC_MODE_NONE:
      return job::SyncMode::kNone;
    case block::v1::MIRROR_SYNC_MODE_INCREMENTAL:
      return job::SyncMode::kIncremental;
    case block::v1::MIRROR_SYNC_MODE_BITMAP:
      return job::SyncMode::kBitmap;
    default:
      return job::SyncMode::kFull;
  }
}

absl::optional<job::BitmapMode> FromProto(block::v1::BitmapSyncMode mode) {
  switch (mode) {
    case block::v1::BITMAP_SYNC_MODE_ON_SUCCESS:
      return job::BitmapMode::kOnSuccess;
    case block::v1::BITMAP_SYNC_MODE_NEVER:
      return job::BitmapMode::kNever;
    case block::v1::BITMAP_SYNC_MODE_ALWAYS:
      return job::BitmapMode::kAlways;
    default:
      return absl::nullopt;
  }
}

// What the two requests have in common, which is all but the target.
template <typename Request>
BackupRequest CommonFromProto(const Request& request) {
  BackupRequest common;
  common.job.id = request.job_id();
  common.job.type = job::JobType::kBackup;
  common.job.speed = request.speed();
  common.job.auto_finalize = !request.has_auto_finalize() || request.auto_finalize();
  common.job.auto_dismiss = !request.has_auto_dismiss() || request.auto_dismiss();
  common.job.on_source_error = native::FromProto(request.on_source_error());
  common.job.on_target_error = native::FromProto(request.on_target_error());
  common.backup.job_id = request.job_id();
  common.backup.sync = FromProto(request.sync());
  common.backup.bitmap = request.bitmap();
  common.backup.bitmap_mode = FromProto(request.bitmap_mode());
  common.backup.compress = request.compress();
  if (request.x_perf().has_max_workers()) {
    common.backup.max_workers = request.x_perf().max_workers();
  }
  if (request.x_perf().max_chunk() != 0) {
    common.backup.max_chunk_bytes = request.x_perf().max_chunk();
  }
  common.source_node = request.device();
  common.filter_node_name = request.filter_node_name();
  return common;
}

}  // namespace

BackupRequest FromProto(const block::v1::BlockdevBackupRequest& request) {
  BackupRequest backup = CommonFromProto(request);
  backup.target_node = request.target();
  return backup;
}

BackupRequest FromProto(const block::v1::DriveBackupRequest& request) {
  BackupRequest backup = CommonFromProto(request);
  backup.target_file =
      DriveTarget{.path = request.target(),
                  .format = request.format(),
                  .existing = request.mode() == block::v1::NEW_IMAGE_MODE_EXISTING};
  return backup;
}

std::unique_ptr<transaction::Action> MakeBackupAction(Engine* engine, BackupRequest request,
                                                      std::shared_ptr<job::JobGroup> group) {
  return std::make_unique<BackupAction>(engine, std::move(request), std::move(group));
}

}  // namespace tidemark::native
