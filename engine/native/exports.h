// The NBD server and what it exports, by id.
//
// Thread rule: stated below. What runs on a graph-command worker may wait for a disk or for
// requests in flight. Two at a time are fine if they are about different exports; about the server,
// nothing else runs meanwhile (order_book.h).
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

  // ---- Graph-command worker.

  // NBD_SERVER_RUNNING, and what nbd::Server::Start refuses.
  absl::Status StartServer(nbd::Server::Options options);
  // Ends every export, with its event. NBD_SERVER_NOT_RUNNING. Other errors, also of Remove: the
  // export is gone, but not all was saved of what it alone kept open.
  absl::Status StopServer();

  // NBD_SERVER_NOT_RUNNING, EXPORT_EXISTS, NODE_NOT_FOUND, NODE_READ_ONLY, BITMAP_NOT_FOUND and the
  // other refusals of bitmaps, PERMISSION_CONFLICT.
  absl::Status Add(const ExportRequest& request);
  // EXPORT_NOT_FOUND; EXPORT_IN_USE unless `force`.
  absl::Status Remove(const std::string& id, bool force);

  // ---- Engine thread.

  // Newest first.
  std::vector<ExportInfo> List() const;
  // The nodes that an export uses; none for an unknown id.
  std::vector<const graph::Node*> NodesOf(absl::string_view id) const;
  // Those that any export uses.
  std::vector<const graph::Node*> AllNodes() const;

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

  using Records = std::list<std::unique_ptr<Record>>;

  static void AddNodesOf(const Record& record, std::vector<const graph::Node*>* nodes);
  // Engine thread.
  absl::Status CheckNew(const ExportRequest& request) const;
  // Engine thread: finds and reserves what the export needs.
  absl::StatusOr<std::unique_ptr<Record>> Link(const ExportRequest& request);
  absl::StatusOr<UsedBitmap> FindBitmap(graph::Node* node, const ExportRequest& request,
                                        const ExportedBitmap& wanted) const;
  // Engine thread: the record uses the bitmap.
  absl::Status Use(UsedBitmap used, Record* record);
  // Engine thread: gives back what Link reserved.
  void Unlink(const Record& record);
  // The server has let go of it: forgets it, tells, and closes what it alone kept open.
  absl::Status Finish(Records::iterator record);

  Threads& threads_;
  graph::Graph& graph_;
  backend::EventLog& log_;

  // Engine thread. A command that uses it has a reference of its own.
  std::shared_ptr<nbd::Server> server_;
  // Engine thread. Newest first. One that a command has found stays until that command removes it.
  Records records_;
};

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_EXPORTS_H_
