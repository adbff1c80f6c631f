#include "engine/native/commands/node_commands.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/graph/quiesce.h"
#include "engine/job/create_job.h"
#include "engine/native/chain.h"
#include "engine/native/drivers/file_driver.h"
#include "engine/native/drivers/qcow2_driver.h"
#include "engine/native/graph_change.h"
#include "engine/native/jobs/create_image.h"
#include "engine/native/limits.h"
#include "engine/native/node_closing.h"
#include "engine/native/node_info.h"
#include "tidemark/block/v1/node.pb.h"
#include "tidemark/block/v1/node_graph.pb.h"

namespace tidemark::native {
namespace {

// The persistent bitmaps of what is about to go, put into their images while it can still stay.
class BitmapsAhead {
 public:
  // Stores those of the nodes that go with `name`. An error says that the node stays, and then
  // everything is as before. Worker.
  static absl::StatusOr<BitmapsAhead> Store(Engine& engine, const std::string& name) {
    ASSIGN_OR_RETURN(std::vector<OfNode> nodes,
                     engine.threads.OnEngine([&] { return Find(engine, name); }));
    BitmapsAhead stored;
    for (OfNode& node : nodes) {
      const absl::Status status = node.driver->StoreBitmaps(std::move(node.bitmaps));
      if (!status.ok()) {
        return Annotate(stored.KeepUsing(status),
                        absl::StrCat("node \"", name, "\" stays, since not all bitmaps of \"",
                                     node.name, "\" can be stored"));
      }
      stored.drivers_.push_back(node.driver);
    }
    return stored;
  }
  // The nodes do not go after all, because of `reason`, which is returned with what went wrong here
  // added to it. Worker.
  absl::Status KeepUsing(absl::Status reason) {
    for (graph::Driver* driver : std::exchange(drivers_, {})) {
      const absl::Status status = driver->KeepUsingBitmaps();
      if (!status.ok()) reason = Annotate(reason, status.message());
    }
    return reason;
  }

 private:
  struct OfNode {
    std::string name;
    graph::Driver* driver;
    std::vector<graph::StoredBitmap> bitmaps;
  };

  static absl::StatusOr<std::vector<OfNode>> Find(Engine& engine, const std::string& name) {
    ASSIGN_OR_RETURN(const std::vector<graph::Node*> nodes, engine.graph.NodesToDelete(name));
    std::vector<OfNode> found;
    for (graph::Node* node : nodes) {
      std::vector<graph::StoredBitmap> bitmaps = node->bitmaps().Stored();
      if (bitmaps.empty()) continue;
      found.push_back({node->name(), &node->driver(), std::move(bitmaps)});
    }
    return found;
  }

  std::vector<graph::Driver*> drivers_;
};

absl::Status BlockdevDel(Engine& engine, const std::string& name) {
  ASSIGN_OR_RETURN(BitmapsAhead bitmaps, BitmapsAhead::Store(engine, name));
  absl::StatusOr<graph::RemovedNodes> removed =
      engine.threads.OnEngine([&] { return engine.graph.DeleteNode(name); });
  if (!removed.ok()) return bitmaps.KeepUsing(removed.status());
  return Annotate(CloseNodes(engine.threads, engine.graph, *std::move(removed)),
                  absl::StrCat("node \"", name, "\" is gone, but not all was saved"));
}

absl::Status BlockResize(Engine& engine, const std::string& name, uint64_t size_bytes) {
  std::vector<std::shared_ptr<graph::Port>> ports;
  graph::Edge* edge = nullptr;
  RETURN_IF_ERROR(ChangeGraph(
      engine.threads, engine.graph,
      [&]() -> absl::Status {
        ASSIGN_OR_RETURN(graph::Node* const node, engine.graph.Find(name));
        ports = engine.graph.PortsToResize(node);
        ASSIGN_OR_RETURN(edge, engine.graph.BeginResize(node, size_bytes));
        return absl::OkStatus();
      },
      [&] { engine.graph.Detach(edge); }));
  absl::Status status;
  {
    graph::Quiesce quiesce;
    quiesce.AddPatiently(ports, kInstantPatience);
    status = edge->port()->Resize(size_bytes);
    engine.threads.OnEngine([&] { engine.graph.EndResize(edge); });
  }
  // The edge is gone; what it asked for of the image locks is given back now that guests go on.
  status.Update(DetachAndClose(engine.threads, engine.graph, {}));
  return Annotate(status, absl::StrCat("cannot resize node \"", name, "\" to ", size_bytes));
}

absl::Status ChangeBackingFile(Engine& engine, const block::v1::ChangeBackingFileRequest& request) {
  const std::string& name = request.image_node_name();
  std::string format;
  ASSIGN_OR_RETURN(
      const std::shared_ptr<Qcow2Driver> driver,
      engine.threads.OnEngine([&]() -> absl::StatusOr<std::shared_ptr<Qcow2Driver>> {
        ASSIGN_OR_RETURN(graph::Node* const top, engine.graph.Find(request.device()));
        const std::vector<graph::Node*> chain = ChainOf(top);
        ASSIGN_OR_RETURN(const size_t place, FindNodeInChain(engine.graph, chain, name));
        graph::Node* const image = chain[place];
        RETURN_IF_ERROR(graph::Graph::CheckNotBlocked(*image, graph::Operation::kReopen));
        auto qcow2 = std::dynamic_pointer_cast<Qcow2Driver>(image->shared_driver());
        if (qcow2 == nullptr || image->backing() == nullptr) {
          return Error(Reason::kNodeLacksFeature,
                       absl::StrCat("node '", name, "' has no backing image"), {{"node", name}});
        }
        if (image->read_only()) {
          return Error(Reason::kNodeReadOnly,
                       absl::StrCat("node '", name,
                                    "' is read-only: what its image "
                                    "records of its backing file cannot be changed"),
                       {{"node", name}});
        }
        // Of the disk that is there now. (QEMU records the format of the image itself.)
        format = std::string(image->backing()->WithoutJobFilters()->driver().name());
        return qcow2;
      }));
  return Annotate(driver->image().ChangeBackingFile(request.backing_file(), format),
                  absl::StrCat("cannot change the backing file of node '", name, "' to \"",
                               request.backing_file(), "\""));
}

// The drivers of the open files.
std::vector<std::shared_ptr<graph::Driver>> FilesOf(const graph::Graph& graph) {
  std::vector<std::shared_ptr<graph::Driver>> files;
  for (const graph::Node* node : graph.AllNodes()) {
    if (dynamic_cast<const FileDriver*>(&node->driver()) != nullptr) {
      files.push_back(node->shared_driver());
    }
  }
  return files;
}

// Starts the job that creates an image.
absl::Status BlockdevCreate(Engine& engine, const block::v1::BlockdevCreateRequest& request) {
  auto job = std::make_unique<job::CreateJob>(
      [&engine, options = request.options()](const std::atomic<bool>& cancelled) {
        return CreateImage(engine, options, cancelled);
      },
      /*clean=*/nullptr, engine.threads.MakeDiskShare());
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
  handlers->Add<ChangeBackingFileRequest, ChangeBackingFileResponse>(
      [engine](const ChangeBackingFileRequest& request, ChangeBackingFileResponse*) {
        return ChangeBackingFile(*engine, request);
      });
  handlers->AddLater<QueryNamedBlockNodesRequest, QueryNamedBlockNodesResponse>(
      [engine](const QueryNamedBlockNodesRequest& request, QueryNamedBlockNodesResponse* response,
               Handlers::Done done) {
        engine->disk_look.Refresh(FilesOf(engine->graph),
                                  [engine, flat = request.flat(), response, done] {
                                    for (graph::Node* node : engine->graph.ListNodes()) {
                                      FillNodeInfo(*node, flat, response->add_nodes());
                                    }
                                    done(absl::OkStatus());
                                  });
      });
}

}  // namespace tidemark::native
