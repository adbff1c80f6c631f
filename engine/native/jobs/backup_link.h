// What a running backup holds of graph and bitmaps: edges, the copy-before-write filter above the
// source, a bitmap with its successor. Shared by the action that starts the backup and may undo it,
// and by the job's hooks, which end it.
//
// Engine thread, but for the methods that say otherwise.
#ifndef ENGINE_NATIVE_JOBS_BACKUP_LINK_H_
#define ENGINE_NATIVE_JOBS_BACKUP_LINK_H_

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "engine/bitmap/dirty_bitmap.h"
#include "engine/bitmap/early_copy.h"
#include "engine/graph/graph.h"
#include "engine/job/backup_job.h"
#include "engine/job/job_group.h"
#include "engine/native/engine.h"
#include "engine/native/jobs/backup_request.h"
#include "engine/native/jobs/job_filter.h"

namespace tidemark::native {

class BackupLink {
 public:
  BackupLink(Engine* engine, BackupRequest request)
      : engine_(*engine),
        request_(std::move(request)),
        source_share_(engine->threads.MakeDiskShare()),
        target_share_(engine->threads.MakeDiskShare()),
        guest_share_(engine->threads.MakeGuestShare()),
        filter_(&engine->graph) {}

  const BackupRequest& request() const { return request_; }
  BackupRequest& mutable_request() { return request_; }
  // What drive-backup has opened: closed when the backup is over or undone.
  void set_opened_target(graph::Node* target) { opened_target_ = target; }
  graph::Node* opened_target() const { return opened_target_; }
  // The target holds nothing at all, and nothing is to be below it.
  void set_target_is_empty(bool is_empty) { target_is_empty_ = is_empty; }
  // Does ahead of the instant what it takes long to find out of the bitmap; what is missing or in
  // the way is refused by Link. Graph-command worker.
  void LookAtBitmap();

  // How the job uses its target.
  graph::AttachRequest TargetUse() const;

  // What can be refused before a target is made. Engine thread.
  absl::Status CheckSource();
  // Checks everything and links it: edges, filter, bitmap; then CreateJob creates the job, when the
  // image locks are held. The gates above the source are closed. On a refusal nothing is left
  // linked, but for what CloseRemoved closes.
  absl::Status Link(std::shared_ptr<BackupLink> self);
  absl::Status CreateJob(std::shared_ptr<job::JobGroup> group);

  // Takes the filter away and, if there is a bitmap, hands it over. Graph-command worker.
  void End(bool success, const bitmap::DirtyBitmap& not_copied);
  // Lets go of the nodes. Graph-command worker.
  void Release();

  // The gates are closed.
  void UnlinkAll();
  // Closes what UnlinkAll took out. Graph-command worker.
  void CloseRemoved();

 private:
  bool copies_by_bitmap() const {
    return request_.backup.sync == job::SyncMode::kBitmap ||
           request_.backup.sync == job::SyncMode::kIncremental;
  }
  absl::Status Find();
  absl::Status CheckBitmap();
  absl::Status AttachNodes();
  void ShareTargetReads(job::BackupParts* parts);
  absl::Status AddFilter(const job::BackupJob& job);
  absl::StatusOr<std::unique_ptr<job::BackupJob>> MakeJob(std::shared_ptr<BackupLink> self);
  absl::Status LinkSteps(std::shared_ptr<BackupLink> self);
  // The copy is over: nobody waits for readers of the target any more. The gates are closed.
  void RemoveFilter();
  void Detach();

  Engine& engine_;
  BackupRequest request_;
  // Threads for the copy's calls.
  const std::unique_ptr<Executor> source_share_;
  const std::unique_ptr<Executor> target_share_;
  const std::unique_ptr<Executor> guest_share_;
  // Opened by drive-backup.
  graph::Node* opened_target_ = nullptr;
  bool target_is_empty_ = false;
  // Of the bitmap that says what is to be copied; null if that was not there.
  std::unique_ptr<bitmap::EarlyCopy> early_bits_;

  graph::Node* source_ = nullptr;
  graph::Node* target_ = nullptr;
  graph::Bitmap* bitmap_ = nullptr;
  bool has_successor_ = false;
  graph::Edge* source_edge_ = nullptr;
  graph::Edge* target_edge_ = nullptr;
  // Until the filter takes it over.
  graph::Edge* filtered_edge_ = nullptr;
  JobFilter filter_;
  // Of the node that holds what the backup writes, if it shows the source: in use.
  std::shared_ptr<graph::SharedReads> target_reads_;
  // Made by Link, created by CreateJob.
  std::unique_ptr<job::BackupJob> job_;
  absl::optional<uint64_t> source_block_;
  absl::optional<uint64_t> target_block_;
  // The filter, and a target that nobody keeps: out of the graph, to be closed.
  std::vector<graph::RemovedNodes> removed_;
};

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_JOBS_BACKUP_LINK_H_
