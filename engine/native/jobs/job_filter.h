// The filter that a job puts above a node: between it and all who use it, but for jobs. Who asks
// for the node's users finds the job there. Engine thread.
#ifndef ENGINE_NATIVE_JOBS_JOB_FILTER_H_
#define ENGINE_NATIVE_JOBS_JOB_FILTER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/graph/graph.h"

namespace tidemark::native {

// NODE_BUSY if the node is the filter of a job: another job, `job_id`, does not work on it.
absl::Status CheckIsNoJobFilter(const graph::Node& node, const std::string& job_id);

class JobFilter {
 public:
  struct Request {
    // "block job 'backup0'".
    std::string user;
    // Empty: the graph makes one.
    std::string node_name;
    std::shared_ptr<graph::Driver> driver;
    graph::ChildPolicy policy = graph::ChildPolicy::kFilter;
  };
  explicit JobFilter(graph::Graph* graph) : graph_(*graph) {}

  // Puts it above the node that `below` leads to, which it takes over, whatever comes of it. The
  // ports above are closed. After a refusal only Remove is called.
  absl::Status Insert(graph::Edge* below, Request request);
  // Takes it out, if it is in, in a moment in which nobody can find it and begin to use it; what is
  // to be closed is added to `removed`. The ports above are closed.
  void Remove(std::vector<graph::RemovedNodes>* removed);

  bool is_inserted() const { return is_inserted_; }
  // While it is in.
  graph::Node* node() const { return node_; }

 private:
  graph::Graph& graph_;
  // Until the node takes it over.
  graph::Edge* below_ = nullptr;
  graph::Node* node_ = nullptr;
  // Keeps others from resizing below it, also when nobody else uses it.
  graph::Edge* edge_ = nullptr;
  bool is_inserted_ = false;
};

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_JOBS_JOB_FILTER_H_
