// What a running mirror holds of the graph, and what its end makes of it: the users of the source
// go to the target, or stay.
//
// Engine thread, but for the methods that say otherwise.
#ifndef ENGINE_NATIVE_JOBS_MIRROR_LINK_H_
#define ENGINE_NATIVE_JOBS_MIRROR_LINK_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/optional.h"
#include "engine/graph/graph.h"
#include "engine/job/job_options.h"
#include "engine/job/mirror_job.h"
#include "engine/native/engine.h"
#include "engine/native/jobs/drive_target.h"
#include "engine/native/jobs/job_filter.h"
#include "tidemark/block/v1/mirror.pb.h"

namespace tidemark::native {

struct MirrorRequest {
  job::JobOptions job;
  std::string source_node;
  // Of an existing node; empty if the target is a file to be opened.
  std::string target_node;
  absl::optional<DriveTarget> target_file;
  // The node whose users move to the target; absent: the source.
  absl::optional<std::string> replaces;
  job::SyncMode sync = job::SyncMode::kFull;
  job::CopyMode copy_mode = job::CopyMode::kBackground;
  // Zeroes take no space in the target.
  bool unmap = true;
  // Bytes per bit; 0: by the target's clusters.
  uint64_t granularity_bytes = 0;
  // Most bytes in flight; 0: the engine's own limit.
  uint64_t in_flight_bytes_max = 0;
  // Empty: the graph makes one.
  std::string filter_node_name;
};

MirrorRequest FromProto(const block::v1::BlockdevMirrorRequest& request);
MirrorRequest FromProto(const block::v1::DriveMirrorRequest& request);

class MirrorLink {
 public:
  MirrorLink(Engine* engine, MirrorRequest request)
      : engine_(*engine),
        request_(std::move(request)),
        source_share_(engine->threads.MakeDiskShare()),
        target_share_(engine->threads.MakeDiskShare()),
        filter_(&engine->graph) {}

  const MirrorRequest& request() const { return request_; }
  // What drive-mirror has opened: let go when the job ends, or when it is undone.
  graph::Node* opened_target() const { return opened_target_; }

  // Makes and opens the target of drive-mirror; nothing for a node. Graph-command worker.
  absl::Status OpenTarget();
  // The node of the target. Engine thread.
  absl::StatusOr<graph::Node*> FindTarget() const;
  // How the job uses it.
  graph::AttachRequest TargetUse() const;
  // Checks everything and links it: edges, filter, blocks, the bitmap that records changes; then
  // CreateJob creates the job, when the image locks are held. The gates above the source are
  // closed. On a refusal nothing is left linked, but for what CloseRemoved closes.
  absl::Status Link(std::shared_ptr<MirrorLink> self);
  absl::Status CreateJob();
  // The gates are closed.
  void UnlinkAll();
  // Closes what UnlinkAll took out. Graph-command worker.
  void CloseRemoved();
  // Lets go of everything, however much of it was linked. Graph-command worker.
  void Release();

 private:
  // What can be refused before a target is made.
  absl::Status CheckSource();
  absl::Status Find();
  absl::Status FindReplaced();
  absl::Status Attach();
  absl::Status RecordChanges();
  absl::Status MakeJob(std::shared_ptr<MirrorLink> self);
  absl::Status AddFilter();
  absl::Status LinkSteps(std::shared_ptr<MirrorLink> self);

  // ---- The job's end. Graph-command worker.
  std::vector<std::shared_ptr<graph::Port>> GuestPorts();
  // The gates are closed. All but what nobody uses any more. Engine thread.
  void LetGo();
  // The guests are held.
  void End(job::Ending ending);
  bool Pivots(const graph::Edge& edge) const;
  // Whether the users can be led to the target. The guests are held.
  absl::Status CheckPivot(job::Ending ending);

  Engine& engine_;
  MirrorRequest request_;
  // Threads for the copy's calls.
  const std::unique_ptr<Executor> source_share_;
  const std::unique_ptr<Executor> target_share_;

  graph::Node* opened_target_ = nullptr;
  graph::Node* source_ = nullptr;
  graph::Node* target_ = nullptr;
  graph::Edge* source_edge_ = nullptr;
  graph::Edge* target_edge_ = nullptr;
  // Until the filter takes it over.
  graph::Edge* filtered_edge_ = nullptr;
  JobFilter filter_;
  // Of the source: what has changed since it was copied.
  graph::Bitmap* changes_ = nullptr;
  std::vector<std::pair<graph::Node*, uint64_t>> blocks_;
  std::shared_ptr<copy::MirrorCopy> copy_;
  // Made by Link, created by CreateJob.
  std::unique_ptr<job::MirrorJob> job_;
  // Out of the graph, to be closed.
  std::vector<graph::RemovedNodes> removed_;
};

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_JOBS_MIRROR_LINK_H_
