// What a running block-stream holds of the graph, and what its end makes of the chain: the image
// that was copied into stands on the base from then on, or alone.
//
// Engine thread, but for the methods that say otherwise.
#ifndef ENGINE_NATIVE_JOBS_STREAM_LINK_H_
#define ENGINE_NATIVE_JOBS_STREAM_LINK_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/optional.h"
#include "engine/graph/graph.h"
#include "engine/job/job_options.h"
#include "engine/job/stream_job.h"
#include "engine/native/engine.h"
#include "engine/native/jobs/job_filter.h"
#include "tidemark/block/v1/chain.pb.h"

namespace tidemark::native {

struct StreamRequest {
  job::JobOptions job;
  std::string device;
  // At most one of them: how far down is copied.
  std::string base;
  std::string base_node;
  std::string bottom;
  absl::optional<std::string> backing_file;
  bool backing_mask_protocol = false;
  // Empty: the graph makes one.
  std::string filter_node_name;
};

StreamRequest FromProto(const block::v1::BlockStreamRequest& request);

class StreamLink {
 public:
  StreamLink(Engine* engine, StreamRequest request)
      : engine_(*engine),
        request_(std::move(request)),
        read_share_(engine->threads.MakeDiskShare()),
        write_share_(engine->threads.MakeDiskShare()),
        filter_(&engine->graph) {}

  const StreamRequest& request() const { return request_; }

  // Checks everything and links it: edges, filter, blocks; then CreateJob creates the job, when the
  // image locks are held. The gates above the image are closed. On a refusal nothing is left
  // linked, but for what CloseRemoved closes.
  absl::Status Link(std::shared_ptr<StreamLink> self);
  absl::Status CreateJob();
  // The gates are closed.
  void UnlinkAll();
  // Closes what UnlinkAll took out. Graph-command worker.
  void CloseRemoved();

 private:
  absl::Status Find();
  absl::Status FindBottom();
  absl::Status CheckRecordable() const;
  absl::Status Attach();
  absl::Status MakeJob(std::shared_ptr<StreamLink> self);
  absl::Status LinkSteps(std::shared_ptr<StreamLink> self);

  // ---- The job's end. Graph-command worker.
  // Records the base, and takes out of the chain what was copied. If the graph refuses that, the
  // name of the base stays recorded: with what was copied the image is right above either.
  absl::Status ShortenChain();
  absl::Status Record(const graph::Node* base);
  void Release();

  Engine& engine_;
  const StreamRequest request_;
  // Threads for the copy's calls.
  const std::unique_ptr<Executor> read_share_;
  const std::unique_ptr<Executor> write_share_;

  graph::Node* image_ = nullptr;
  // The lowest of those that are copied, which may be the image itself: what is below it when the
  // job ends is the base.
  graph::Node* bottom_ = nullptr;
  int layer_count_ = 0;
  bool has_base_ = false;
  // The job's own, and until the filter takes it over that of the filter.
  graph::Edge* edge_ = nullptr;
  graph::Edge* filtered_edge_ = nullptr;
  JobFilter filter_;
  std::vector<std::pair<graph::Node*, uint64_t>> blocks_;
  // Made by Link, created by CreateJob.
  std::unique_ptr<job::StreamJob> job_;
  // Out of the graph, to be closed.
  std::vector<graph::RemovedNodes> removed_;
};

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_JOBS_STREAM_LINK_H_
