// A node of the block graph: a driver under a name, with edges to the nodes it uses, edges from
// those who use it, bitmaps, and the data plane that joins them. The graph owns nodes and alone
// changes them. Engine thread only, except where said.
#ifndef ENGINE_GRAPH_NODE_H_
#define ENGINE_GRAPH_NODE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/graph/bitmap_store.h"
#include "engine/graph/driver.h"
#include "engine/graph/edge.h"
#include "engine/graph/lock_changes.h"
#include "engine/graph/node_options.h"
#include "engine/graph/operation.h"
#include "engine/graph/permissions.h"
#include "engine/graph/shared_reads.h"

namespace tidemark::graph {

// Who decides how long a node lives.
enum class Ownership {
  kMonitor,  // blockdev-add: until blockdev-del.
  kParents,  // An inline child, an implicit backing image: as long as somebody uses it.
  kEngine,   // A job's filter or target: until Graph::RemoveNode or LeaveToUsers.
};

class Node {
 public:
  // Unique in its graph; "#block<n>" if nobody gave one. Constant: any thread.
  const std::string& name() const { return name_; }
  bool has_generated_name() const { return !name_.empty() && name_[0] == '#'; }
  // These stay the same until Graph::Exchange. (What a driver may be asked on which thread, it says
  // itself; whoever asks on another thread sees to it that the node is not exchanged meanwhile.)
  Driver& driver() const { return *driver_; }
  const std::shared_ptr<Driver>& shared_driver() const { return driver_; }
  const NodeOptions& options() const { return options_; }
  // Nobody may write it.
  bool read_only() const { return is_frozen_ || is_opened_read_only(); }
  // Nobody could: not its driver either, of its own accord.
  bool is_opened_read_only() const { return options_.read_only || options_.force_share; }
  // The data with bitmaps and options, without a gate: for what only looks (size, limits). Requests
  // go through the port of an edge.
  const std::shared_ptr<storage::Storage>& storage() const { return storage_; }

  // Those who read the node. Constant: any thread.
  const std::shared_ptr<SharedReads>& shared_reads() const { return shared_reads_; }

  Ownership ownership() const { return ownership_; }
  bool hidden() const { return hidden_; }
  // Put in by a job, and going with it: no client has asked for the node.
  bool is_job_filter() const { return is_job_filter_; }
  // The longest way down from here, this node included.
  int depth() const { return depth_; }
  // In the order attached.
  const std::vector<Edge*>& children() const { return children_; }
  const std::vector<Edge*>& parents() const { return parents_; }
  // What all users together do, and what all of them share.
  const Permissions& permissions() const { return permissions_; }
  BitmapStore& bitmaps() { return bitmaps_; }
  const BitmapStore& bitmaps() const { return bitmaps_; }

  // The child in that role, the node below a filter, or null.
  Node* ChildInRole(absl::string_view role) const;
  Node* backing() const { return ChildInRole(kRoleBacking); }
  // For a filter (Driver::is_filter), the node that it shows; null for other nodes.
  Node* filtered() const;
  // This node, or what is below it if a job has put it in, however many there are.
  const Node* WithoutJobFilters() const;
  // How many images are below in the chain of backing files; filters of jobs do not count.
  int backing_depth() const;
  // True if `other` is this node or below it.
  bool Reaches(const Node* other) const;

 private:
  friend class Graph;
  friend class PermissionUpdate;
  friend class RemovedNodes;

  Node(std::string name, std::shared_ptr<Driver> driver, const NodeOptions& options,
       Ownership ownership, bool hidden, bool is_job_filter);
  // The driver's data with all that the node puts around it.
  std::shared_ptr<storage::Storage> MakeStorage() const;
  // Leaves the way of its users to it, and its edges, as they are.
  void SetBody(std::shared_ptr<Driver> driver, const NodeOptions& options);

  // Constant after construction.
  const std::string name_;
  const bool is_job_filter_;
  const std::shared_ptr<TrackedBitmaps> tracked_;
  const std::shared_ptr<SharedReads> shared_reads_;

  std::shared_ptr<Driver> driver_;
  NodeOptions options_;
  std::shared_ptr<storage::Storage> storage_;

  Ownership ownership_;
  bool hidden_;
  // See Graph::Freeze.
  bool is_frozen_ = false;
  // No longer in the graph, but not closed yet.
  bool removed_ = false;
  // See depth(); kept by whoever changes edges.
  int depth_ = 1;
  BitmapStore bitmaps_;
  std::vector<Edge*> children_;
  std::vector<Edge*> parents_;
  Permissions permissions_;
  // The graph's list of drivers that were told of new permissions.
  std::vector<ToldDriver>* told_ = nullptr;
  std::vector<OperationBlock> blocks_;
};

// Gives the nodes below `changed`, and those themselves, and the edges between them the permissions
// that follow from how they are used now. Refused (READ_ONLY, PERMISSION_CONFLICT, a driver), it
// changes nothing.
absl::Status UpdatePermissions(absl::Span<Node* const> changed);

}  // namespace tidemark::graph

#endif  // ENGINE_GRAPH_NODE_H_
