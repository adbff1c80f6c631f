// The block graph: every node by name, every use of a node as an edge, and the rules about who may
// use what together. Engine thread only: nothing here waits for a disk.
//
// What blocks is done by the caller on a graph-command worker, in between. To add a qcow2 image:
//
//   worker   open the file                          -> FileDriver
//   engine   file = AddNode({file driver, kParents, hidden})
//            edge = Attach(file, {"node 'disk0'", kRoleFile, write|resize, ...})
//            locks = TakeLockChanges()
//   worker   locks.Apply()                          takes image locks; if refused, Detach
//   worker   open the image over edge->port()       -> Qcow2Driver
//   engine   AddNode({"disk0", qcow2 driver, children: {edge, kRoleFile, kFormatFile}})
//
// The new node takes the edge over. If opening fails: Detach(edge), TakeOrphans, and as below.
//
// To delete one:
//
//   engine   nodes = NodesToDelete("disk0"), and the bitmaps that they have stored
//   worker   their drivers store the bitmaps: if one cannot be stored, the node stays
//   engine   removed = DeleteNode("disk0")   its name is free, it and its inline children are gone
//   worker   removed.Close()                 stores bitmaps, closes files, top first
//   engine   Unlink(&removed)                releases what it used below
//   worker   removed is destroyed            with it go the last references to the files
#ifndef ENGINE_GRAPH_GRAPH_H_
#define ENGINE_GRAPH_GRAPH_H_

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/graph/change.h"
#include "engine/graph/lock_changes.h"
#include "engine/graph/node.h"

namespace tidemark::graph {

struct ChildSpec {
  Edge* edge = nullptr;  // Attached beforehand; the new node takes it over.
  std::string role;
  ChildPolicy policy = ChildPolicy::kFixed;
};

struct NodeSpec {
  std::string name;  // Empty: the graph makes one.
  std::shared_ptr<Driver> driver;
  NodeOptions options;
  Ownership ownership = Ownership::kMonitor;
  // Not listed until a node above it is added.
  bool hidden = false;
  // A job puts it in, and takes it out again.
  bool is_job_filter = false;
  std::vector<ChildSpec> children;
  std::vector<StoredBitmap> bitmaps;  // Found in the image, in its order.
};

// What a node is, but for its name, its users and its bitmaps.
struct NodeBody {
  std::shared_ptr<Driver> driver;
  NodeOptions options;
  // All that it uses: edges that it has already, and others that were attached beforehand, which it
  // takes over.
  std::vector<ChildSpec> children;
};

struct AttachRequest {
  std::string user;  // Who: "block export 'e0'", "block job 'backup0'".
  std::string role = kRoleRoot;
  Permissions permissions;
  // False for a job: its own reading and writing goes on through points in time, and a filter put
  // in above the node is not put before it.
  bool gated = true;
};

// Nodes that were taken out of the graph and must be closed.
class RemovedNodes {
 public:
  bool empty() const { return nodes_.empty(); }
  // Closes each node, those above before those below; goes on after an error, and returns all of
  // them in one. Worker. Call Unlink afterwards also after an error.
  absl::Status Close();

 private:
  friend class Graph;
  std::vector<std::unique_ptr<Node>> nodes_;  // Above before below.
};

class Graph {
 public:
  Graph() = default;
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  // ---- Nodes ----

  // INVALID_ARGUMENT for the form, NODE_NAME_TAKEN.
  absl::Status CheckNewName(absl::string_view name) const;
  // A refusal (name, permissions, too deep) leaves the edges as they were, and the driver, of which
  // the caller keeps a reference, unclosed.
  absl::StatusOr<Node*> AddNode(NodeSpec spec);
  // As if AddNode, just now, had been refused.
  void TakeBack(Node* node);
  // NODE_NOT_FOUND naming it; also for a hidden node, which nobody is to use before the one that it
  // was opened for.
  absl::StatusOr<Node*> Find(absl::string_view name) const;
  // Newest first, without hidden ones.
  std::vector<Node*> ListNodes() const;

  // What DeleteNode would take out, those above before those below, or its refusal.
  absl::StatusOr<std::vector<Node*>> NodesToDelete(absl::string_view name) const;
  // ---- Parts: what commands that run side by side must not share ----

  // The node of that name, and all that are connected with it by edges between nodes, hidden ones
  // and those being closed (taken out, not unlinked yet) included. Empty if there is none.
  std::vector<const Node*> PartOf(absl::string_view name) const;
  // The same for any node, hidden or being closed.
  std::vector<const Node*> PartOf(const Node* node) const;
  // Every node, hidden ones and (the second) those being closed included.
  std::vector<const Node*> ListAll() const;
  std::vector<const Node*> AllNodes() const;

  // blockdev-del: NODE_NOT_FOUND, NODE_BUSY naming the user or the node above,
  // NODE_NOT_MONITOR_OWNED.
  absl::StatusOr<RemovedNodes> DeleteNode(absl::string_view name);
  // The engine's own way: a filter that was taken out. Nobody uses it (CHECKed).
  RemovedNodes RemoveNode(Node* node);
  // A node of the engine's that its users may keep from now on: it goes with the last of them
  // (TakeOrphans, at once if it has none).
  void LeaveToUsers(Node* node) { node->ownership_ = Ownership::kParents; }
  // A node of the engine's is as if blockdev-add had made it.
  void LeaveToMonitor(Node* node) { node->ownership_ = Ownership::kMonitor; }
  // Nodes that live by their parents and have none any more: to be called after Detach, in the same
  // task of the engine thread, so that nobody else takes them.
  RemovedNodes TakeOrphans();
  // At shutdown: every node, whoever uses it. Users' edges are gone afterwards.
  RemovedNodes TakeAll();
  // The same for the nodes of some parts, by the names of all nodes in them.
  RemovedNodes TakePart(absl::Span<const std::string> node_names);
  // After Close: releases what the removed nodes used. To be called for all that were taken out.
  void Unlink(RemovedNodes* removed);

  // ---- Users ----

  // NODE_READ_ONLY, PERMISSION_CONFLICT. While a job has a filter above the node that shares it
  // with other writers, gated users come to be above that.
  absl::StatusOr<Edge*> Attach(Node* node, AttachRequest request);
  // Nothing of the user is in flight.
  void Detach(Edge* edge);
  // What is to be done about image locks after all that was changed: to be called in the same task
  // of the engine thread as the changes, and applied on a worker before anybody relies on them
  // (lock_changes.h). If that is refused, the changes are undone.
  LockChanges TakeLockChanges();
  absl::Status ChangePermissions(Edge* edge, const Permissions& permissions);

  // The ports to close for a point in time at `nodes`: those of all gated users of them and of the
  // nodes above them.
  std::vector<std::shared_ptr<Port>> PortsAbove(absl::Span<Node* const> nodes) const;

  // The ports of all users of `nodes` and of the nodes above them, gated or not, and then those
  // between nodes there, top first. With all closed, in this order (Quiesce), nothing whatever is
  // in flight at `nodes`, and nothing begins until they are opened.
  //
  // A user that is not gated may hold a request at one port while it waits at another: a copy does,
  // with its source and its target. Closed under such a one, the ports may never be empty. So first
  // every job above is drained and makes no step meanwhile, old data of guests that waits to be
  // written out included; and nobody closes these ports from within a request.
  std::vector<std::shared_ptr<Port>> AllPortsAbove(absl::Span<Node* const> nodes) const;

  // ---- Filters ----

  // All who use `below` use `filter` instead, which has an edge to it and no users yet: but for
  // jobs, and for nodes that `filter` uses itself. The ports above `below` are closed (CHECKed). On
  // a refusal nothing has changed.
  absl::Status InsertFilter(Node* filter, Node* below);
  // All who use `filter` use what it filters again; then RemoveNode it. The ports above are closed
  // (CHECKed).
  absl::Status RemoveFilter(Node* filter);

  // ---- Exchange ----

  // The uses of `from` for which `moves` says yes are uses of `to` from now on: the image that a
  // snapshot goes on in, the copy that a mirror ends with. All or none: refused, nothing has
  // changed, for a node that would be above itself (INVALID_COMBINATION), LIMIT_REACHED, and what
  // permissions forbid. The ports above `from`, and also those of users that move without being
  // gated, are closed (CHECKed). Sizes, bitmaps and data are the caller's business.
  absl::Status Replace(Node* from, Node* to, absl::FunctionRef<bool(const Edge&)> moves);

  // `node` is what `body` says from now on, for users that notice nothing: they keep their ports,
  // and it keeps its name and its bitmaps, which go on recording. The ports of AllPortsAbove are
  // closed (CHECKed). A refusal, for the reasons of Replace, leaves everything as it was.
  //
  // The driver that went is the caller's, to be closed once the change is committed. Edges that
  // `body` does not name are let go: they keep what they have the use of until the commit detaches
  // them (TakeOrphans). Until commit or undo nothing else is done with the node and its children.
  absl::StatusOr<Change> Exchange(Node* node, NodeBody body);

  // As an exchange of the edge to the backing disk alone, of an image that stays open: `backing`,
  // attached beforehand, takes the place of the one it has, if any; null: there is none from now
  // on.
  absl::StatusOr<Change> SetBacking(Node* node, Edge* backing);

  // Images are taken out of the chain below `node`, which holds all that they show by now: what is
  // beneath it from now on is `to`, which is further down; null: nothing. Only the port between the
  // node and its backing disk is closed (CHECKed): the users of the node go on, and no request of
  // theirs that began before the node held all that is in flight any more. A refusal (permissions)
  // changes nothing. The node that was beneath may be an orphan now.
  absl::Status ShortenBacking(Node* node, Node* to);
  // That port; null if the node has no backing disk.
  static std::shared_ptr<Port> BackingPort(const Node& node);

  // Nobody may write the node from now on, until Thaw; refused while somebody may (NODE_READ_ONLY).
  // Its driver may still store its bitmaps, until SetReadOnly.
  absl::Status Freeze(Node* node);
  void Thaw(Node* node) { node->is_frozen_ = false; }
  // Nobody writes the node from now on, nor its persistent bitmaps; refused while somebody may
  // (NODE_READ_ONLY). What its driver writes of its own accord it has written.
  absl::Status SetReadOnly(Node* node);

  // ---- What jobs forbid ----

  // Until Unblock, CheckNotBlocked refuses `operations` on the node with NODE_BUSY, "node 'x' is "
  // followed by `reason`.
  uint64_t Block(Node* node, OperationSet operations, std::string reason);
  void Unblock(Node* node, uint64_t id);
  static absl::Status CheckNotBlocked(const Node& node, Operation operation);

  // ---- Resize ----

  // A disk's size is that of every node that shows it: the file below a raw node that is resized,
  // and the raw nodes and filters above that file, change theirs with it.

  // May the node's size become `size_bytes`? Checks blocks, and for all whose size changes with it
  // images above, bitmaps and permissions; attaches the edge to resize by, which is not gated. Then
  // close PortsToResize, resize through the edge's port on a worker, and EndResize, also if that
  // failed.
  absl::StatusOr<Edge*> BeginResize(Node* node, uint64_t size_bytes);
  // The ports of all gated users who see the size of `node` or of what it is resized through.
  std::vector<std::shared_ptr<Port>> PortsToResize(Node* node) const;
  // The bitmaps of all that changed take on the new size; detaches the edge.
  void EndResize(Edge* edge);

 private:
  std::string GenerateName();
  // What a new user of `node` uses in truth.
  static Node* UnderJobFilters(Node* node);
  void Reveal(Node* node);
  absl::Status CheckDeletable(const Node& node) const;
  // Takes the node out, and those below that live by it.
  void Extract(Node* node, RemovedNodes* removed);
  void Erase(Edge* edge);
  static absl::Status TooDeep(absl::string_view name, int depth, int depth_max);
  // Whether they are as deep as nodes may be, and below themselves, with the edges as they are.
  static absl::Status UpdateDepths(absl::Span<Node* const> changed, int depth_max);
  // Makes `child` the node that `edge` leads to.
  static void Move(Edge* edge, Node* child);
  absl::StatusOr<Change> ExchangeChildren(Node* node, std::vector<ChildSpec> children);
  // `node`, and all whose size changes with its size.
  static std::vector<Node*> NodesOfOneSize(Node* node);
  // Makes `edges`, which all lead to one node, lead to `child`; nothing changes if it is refused.
  // (By value: moving an edge changes the lists of its nodes.)
  absl::Status Repoint(std::vector<Edge*> edges, Node* child, int depth_max);

  std::list<std::unique_ptr<Node>> nodes_;  // Newest first.
  // Told of new permissions, which they have not applied yet.
  std::vector<ToldDriver> told_;
  // Taken out, and not unlinked yet.
  std::vector<const Node*> closing_;
  absl::flat_hash_map<std::string, Node*> by_name_;
  absl::flat_hash_map<Edge*, std::unique_ptr<Edge>> edges_;
  uint64_t next_generated_name_ = 1;
  uint64_t next_block_id_ = 1;
};

}  // namespace tidemark::graph

#endif  // ENGINE_GRAPH_GRAPH_H_
