// How a job comes to be, linked to its nodes and then created, and what it leaves.
#ifndef ENGINE_NATIVE_JOBS_LINK_JOB_H_
#define ENGINE_NATIVE_JOBS_LINK_JOB_H_

#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "engine/native/engine.h"
#include "engine/native/graph_change.h"
#include "engine/native/node_closing.h"

namespace tidemark::native {

// Links `link`, a BackupLink or the like, and has `create` create its job on the engine thread once
// the image locks are held. On a refusal nothing is left linked, and what the link has taken out of
// the graph is closed. The gates above are closed. Graph-command worker.
template <typename Link>
absl::Status LinkAndCreateJob(Engine& engine, const std::shared_ptr<Link>& link,
                              absl::FunctionRef<absl::Status()> create) {
  absl::Status status = ChangeGraph(
      engine.threads, engine.graph, [&] { return link->Link(link); }, [&] { link->UnlinkAll(); });
  if (status.ok()) status = ChangeGraph(engine.threads, engine.graph, create, [] {});
  if (!status.ok()) link->CloseRemoved();
  return status;
}

// Creates the job that `link` has made on `node_names`, source first; refused, nothing is left
// linked. Engine thread.
template <typename Link>
absl::Status CreateLinkedJob(Engine& engine, Link* link, std::unique_ptr<job::Job> job,
                             std::shared_ptr<job::JobGroup> group,
                             std::vector<std::string> node_names) {
  const job::JobOptions& options = link->request().job;
  engine.job_events.SetNodes(options.id, std::move(node_names));
  absl::Status status = engine.scheduler.Create(options, std::move(job), std::move(group));
  if (!status.ok()) {
    engine.job_events.ForgetNodes(options.id);
    link->UnlinkAll();
  }
  return status;
}

// Closes what a job has taken out of the graph. It has nothing to lose there, but somebody should
// hear of a failure. Graph-command worker.
inline void CloseRemovedByJob(Engine& engine, const std::string& job_id,
                              std::vector<graph::RemovedNodes>* removed) {
  for (graph::RemovedNodes& nodes : std::exchange(*removed, {})) {
    const absl::Status status = CloseNodes(engine.threads, engine.graph, std::move(nodes));
    if (status.ok()) continue;
    std::fprintf(stderr, "tidemark: closing what job '%s' has used: %s\n", job_id.c_str(),
                 std::string(status.message()).c_str());
  }
}

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_JOBS_LINK_JOB_H_
