// QEMU's nodes as its queries tell them, for those who must know what lies where. Plain values; any
// thread.
#ifndef ADAPTERS_QMP_GRAPH_VIEW_H_
#define ADAPTERS_QMP_GRAPH_VIEW_H_

#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "adapters/qmp/json.h"

namespace tidemark::qmp {

inline constexpr char kGraphQuery[] = "x-debug-query-block-graph";

class GraphView {
 public:
  // What kGraphQuery and query-named-block-nodes returned. What is not of the form
  // that QEMU's documents give is left out.
  GraphView(const Json& graph, const Json& nodes);

  // The name of the node that a command means by `name`: that of a device's node, or its own. Empty
  // if there is neither.
  std::string Resolve(const std::string& name) const;

  // The names of drives, by the node that each shows.
  std::map<std::string, std::string> Drives() const;

  // The job whose filter the node is: it takes the node away at its end. Empty if there is none.
  std::string JobOfFilter(const std::string& name) const;

  // The job that takes the node away at its end, for nobody else holds it: its filter, or a node
  // that has no name of its own and is, or lies below, a target that the job has opened. Empty if
  // there is none.
  std::string JobThatTakesAway(const std::string& name) const;

  // A node of a format that stands on this one and makes it longer when it is written; empty if
  // there is none.
  std::string GrownBy(const std::string& name) const;
  // What the node has there: "file", "backing". Empty if nothing.
  std::string Child(const std::string& name, absl::string_view edge) const;
  // A node that is reached from this one in two ways; empty if there is none.
  std::string MeetingPoint(const std::string& name) const;
  // The filter of a mirror that does not see what is written to this node, for that goes to the
  // mirror's source by another way; empty if there is none. Needs the records of the nodes.
  std::string MirrorPassedBy(const std::string& name) const;

  // Another node or a device stands on the node.
  bool IsUsed(const std::string& name) const;

  // The record of the node; null if there is none.
  const Json* Node(const std::string& name) const;
  // Of a QEMU that tells it (10.0 and later): the node is inactive.
  bool IsInactive(const std::string& name) const;
  // Of a QEMU that does not tell it: the node is active, for no other process may write where its
  // image, or that of a node on top of it, has its header. Inactive images let others write. False
  // also where no such image is.
  bool KeepsWritersOut(const std::string& name) const;
  // The image itself, as far as it can be read now, keeps a bitmap of that name.
  bool ImageHasBitmap(const std::string& name, const std::string& bitmap) const;
  // A node that has bitmaps and the size of this one, on which it stands; empty if there is none.
  std::string MarkedNodeOfItsSize(const std::string& name) const;

 private:
  struct Edge {
    uint64_t parent = 0;
    std::string name;
    bool shares_writes = false;
    bool resizes = false;
  };
  bool HasOwnSize(const std::string& name) const;
  // How the image of the node stands on its file; null if there is no such file.
  const Edge* FileEdgeOf(uint64_t id) const;
  // Somebody else than a job holds the node. If none does, `job` is one that does.
  bool IsKept(uint64_t id, std::set<uint64_t>* seen, std::string* job) const;

  std::map<std::string, const Json*> records_;
  std::map<std::string, uint64_t> ids_;
  std::map<uint64_t, std::string> names_;
  // By device name, the node in it.
  std::map<std::string, uint64_t> devices_;
  // By the node that a job stands on, which is its filter if it has one, the job's name.
  std::map<uint64_t, std::string> jobs_;
  // The same for every node of a job.
  std::map<uint64_t, std::string> job_nodes_;
  // The names of devices on a node, most of which have none.
  std::multimap<uint64_t, std::string> backends_;
  std::set<uint64_t> used_;
  // By child.
  std::multimap<uint64_t, Edge> parents_;
};

}  // namespace tidemark::qmp

#endif  // ADAPTERS_QMP_GRAPH_VIEW_H_
