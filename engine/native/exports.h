// The NBD server and what it exports, by id.
//
// Thread rule: List on the engine thread; everything else on the graph-command worker, because
// ending an export waits for the requests in flight.
#ifndef ENGINE_NATIVE_EXPORTS_H_
#define ENGINE_NATIVE_EXPORTS_H_

#include <list>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "engine/backend/event_log.h"
#include "engine/graph/graph.h"
#include "engine/native/threads.h"
#include "engine/nbd/server.h"

namespace tidemark::native {

// A bitmap to show: of the node named, or if that is empty of the exported node or one below it.
struct ExportedBitmap {
  std::string node_name;
  std::string name;
};

struct ExportRequest {
  std::string id;
  std::string node_name;
  // The NBD name; empty for the node's.
  std::string name;
  std::string description;
  bool writable = false;
  bool writethrough = false;
  bool allocation_depth = false;
  std::vector<ExportedBitmap> bitmaps;
};

struct ExportInfo {
  std::string id;
  std::string node_name;
  bool shutting_down = false;
};

class Exports {
 public:
  Exports(Threads* threads, graph::Graph* graph, backend::EventLog* log)
      : threads_(*threads), graph_(*graph), log_(*log) {}

  // NBD_SERVER_RUNNING, and what nbd::Server::Start refuses.
  absl::Status StartServer(nbd::Server::Options options);
  // Ends every export, with its event. NBD_SERVER_NOT_RUNNING.
  absl::Status StopServer();

  // NBD_SERVER_NOT_RUNNING, EXPORT_EXISTS, NODE_NOT_FOUND, NODE_READ_ONLY, BITMAP_NOT_FOUND and the
  // other refusals of bitmaps, PERMISSION_CONFLICT.
  absl::Status Add(const ExportRequest& request);
  // EXPORT_NOT_FOUND; EXPORT_IN_USE unless `force`.
  absl::Status Remove(const std::string& id, bool force);

  // Newest first.
  std::vector<ExportInfo> List() const;

 private:
  struct UsedBitmap {
    graph::Node* node = nullptr;
    graph::Bitmap* bitmap = nullptr;
    // Keeps `node` in the graph.
    graph::Edge* edge = nullptr;
  };
  struct Record {
    std::string id;
    std::string nbd_name;
    graph::Edge* edge = nullptr;
    std::vector<UsedBitmap> bitmaps;  // Those in use already.
    bool shutting_down = false;
  };

  absl::Status CheckNew(const ExportRequest& request) const;
  // Engine thread: finds and reserves what the export needs.
  absl::StatusOr<std::unique_ptr<Record>> Link(const ExportRequest& request);
  absl::StatusOr<UsedBitmap> FindBitmap(graph::Node* node, const ExportRequest& request,
                                        const ExportedBitmap& wanted) const;
  // Engine thread: the record uses the bitmap.
  absl::Status Use(UsedBitmap used, Record* record);
  // Engine thread: gives back what Link reserved.
  void Unlink(const Record& record);
  // The server has let go of it: forgets it, and tells.
  void Finish(std::list<std::unique_ptr<Record>>::iterator record);

  Threads& threads_;
  graph::Graph& graph_;
  backend::EventLog& log_;

  // Graph-command worker, and the engine thread while that one waits for it.
  std::unique_ptr<nbd::Server> server_;

  // Changed on the engine thread while the graph-command worker waits for it, so that both may
  // read. Newest first.
  std::list<std::unique_ptr<Record>> records_;
};

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_EXPORTS_H_
