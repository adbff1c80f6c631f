#include "engine/native/jobs/backup_action.h"

#include <utility>

#include "engine/base/status_macros.h"
#include "engine/native/graph_change.h"
#include "engine/native/jobs/backup_link.h"
#include "engine/native/jobs/drive_target.h"
#include "engine/native/jobs/link_job.h"
#include "engine/native/jobs/target_reservation.h"
#include "engine/native/node_closing.h"

namespace tidemark::native {
namespace {

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
        group_(std::move(group)),
        reservation_(engine) {}

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
    reservation_.Take(
        [this]() -> absl::StatusOr<graph::Node*> {
          if (link_->opened_target() != nullptr) return link_->opened_target();
          return engine_.graph.Find(link_->request().target_node);
        },
        link_->TargetUse());
    link_->LookAtBitmap();
    return absl::OkStatus();
  }

  absl::Status Prepare() override {
    RETURN_IF_ERROR(LinkAndCreateJob(engine_, link_, [this] { return link_->CreateJob(group_); }));
    prepared_ = true;
    return absl::OkStatus();
  }

  void Commit() override {
    engine_.threads.OnEngine([this] { engine_.scheduler.Start(link_->request().job.id); });
  }

  void Undo() override {
    // Destroyed here, where that may block.
    std::unique_ptr<job::Job> job;
    ChangeGraph(engine_.threads, engine_.graph, [&] {
      job = engine_.scheduler.Undo(link_->request().job.id);
      link_->UnlinkAll();
    });
    link_->CloseRemoved();
  }

 private:
  absl::Status OpenTarget(BackupRequest& request) {
    // What can be refused without touching a file is refused before one is made.
    RETURN_IF_ERROR(engine_.threads.OnEngine([&]() -> absl::Status {
      RETURN_IF_ERROR(link_->CheckSource());
      if (request.filter_node_name.empty()) return absl::OkStatus();
      return engine_.graph.CheckNewName(request.filter_node_name);
    }));
    ASSIGN_OR_RETURN(graph::Node* const target,
                     OpenDriveTarget(engine_, *request.target_file,
                                     {.command = "drive-backup",
                                      .verb = "back up",
                                      .job_id = request.job.id,
                                      .source_node = request.source_node,
                                      .compress = request.backup.compress},
                                     &request.backup.sync));
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
  // Until the job holds them.
  TargetReservation reservation_;
  bool prepared_ = false;
};

}  // namespace

std::unique_ptr<transaction::Action> MakeBackupAction(Engine* engine, BackupRequest request,
                                                      std::shared_ptr<job::JobGroup> group) {
  return std::make_unique<BackupAction>(engine, std::move(request), std::move(group));
}

}  // namespace tidemark::native
