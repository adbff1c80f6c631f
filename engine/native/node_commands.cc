#include "engine/native/node_commands.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/graph/quiesce.h"
#include "engine/job/create_job.h"
#include "engine/native/create_image.h"
#include "engine/native/node_info.h"
#include "tidemark/block/v1/node.pb.h"

namespace tidemark::native {
namespace {

absl::Status BlockdevDel(Engine& engine, const std::string& name) {
  ASSIGN_OR_RETURN(graph::RemovedNodes removed,
                   engine.threads.OnEngine([&] { return engine.graph.DeleteNode(name); }));
  absl::Status status = removed.Close();
  engine.threads.OnEngine([&] { engine.graph.Unlink(&removed); });
  status.Update(engine.opener.CloseOrphans());
  return Annotate(status, absl::StrCat("node \"", name, "\" is gone, but not all was saved"));
}

absl::Status BlockResize(Engine& engine, const std::string& name, uint64_t size_bytes) {
  std::vector<std::shared_ptr<graph::Port>> ports;
  ASSIGN_OR_RETURN(graph::Edge* const edge,
                   engine.threads.OnEngine([&]() -> absl::StatusOr<graph::Edge*> {
                     ASSIGN_OR_RETURN(graph::Node* const node, engine.graph.Find(name));
                     ports = engine.graph.PortsToResize(node);
                     return engine.graph.BeginResize(node, size_bytes);
                   }));
  absl::Status status;
  {
    graph::Quiesce quiesce(std::move(ports));
    status = edge->port()->Resize(size_bytes);
    engine.threads.OnEngine([&] { engine.graph.EndResize(edge); });
  }
  return Annotate(status, absl::StrCat("cannot resize node \"", name, "\" to ", size_bytes));
}

// Starts the job that creates an image.
absl::Status BlockdevCreate(Engine& engine, const block::v1::BlockdevCreateRequest& request) {
  auto job = std::make_unique<job::CreateJob>(
      [&engine, options = request.options()](const std::atomic<bool>& cancelled) {
        return CreateImage(engine, options, cancelled);
      });
  return engine.threads.OnEngine([&]() -> absl::Status {
    RETURN_IF_ERROR(engine.scheduler.Create(
        {.id = request.job_id(), .type = job::JobType::kCreate, .auto_dismiss = false},
        std::move(job)));
    engine.scheduler.Start(request.job_id());
    return absl::OkStatus();
  });
}

}  // namespace

void AddNodeCommands(Engine* engine, Handlers* handlers) {
  using namespace block::v1;  // NOLINT: a table of requests.
  handlers->Add<BlockdevAddRequest, BlockdevAddResponse>(
      [engine](const BlockdevAddRequest& request, BlockdevAddResponse*) {
        return engine->opener.Open(request.options(), graph::Ownership::kMonitor).status();
      });
  handlers->Add<BlockdevDelRequest, BlockdevDelResponse>(
      [engine](const BlockdevDelRequest& request, BlockdevDelResponse*) {
        return BlockdevDel(*engine, request.node_name());
      });
  handlers->Add<BlockdevCreateRequest, BlockdevCreateResponse>(
      [engine](const BlockdevCreateRequest& request, BlockdevCreateResponse*) {
        return BlockdevCreate(*engine, request);
      });
  handlers->Add<BlockResizeRequest, BlockResizeResponse>([engine](const BlockResizeRequest& request,
                                                                  BlockResizeResponse*) {
    if (!request.device().empty()) {
      return Error(
          Reason::kNodeNotFound,
          absl::StrCat("the native engine has no drives, and so no drive '", request.device(), "'"),
          {{"node", request.device()}});
    }
    return BlockResize(*engine, request.node_name(), request.size());
  });
  handlers->Add<QueryNamedBlockNodesRequest, QueryNamedBlockNodesResponse>(
      [engine](const QueryNamedBlockNodesRequest& request, QueryNamedBlockNodesResponse* response) {
        for (graph::Node* node : engine->graph.ListNodes()) {
          FillNodeInfo(*node, request.flat(), response->add_nodes());
        }
        return absl::OkStatus();
      });
}

}  // namespace tidemark::native
