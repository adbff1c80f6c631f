// One use of a node: by a node above it, or by a user that is none (an export, a job). Carries
// role, permissions, and the port that is its data plane. The graph owns edges and alone changes
// them; one is valid until it is detached. Engine thread only, except where said.
#ifndef ENGINE_GRAPH_EDGE_H_
#define ENGINE_GRAPH_EDGE_H_

#include <memory>
#include <string>

#include "engine/graph/permissions.h"
#include "engine/graph/port.h"

namespace tidemark::graph {

class Node;

inline constexpr char kRoleFile[] = "file";
inline constexpr char kRoleBacking[] = "backing";
inline constexpr char kRoleRoot[] = "root";
inline constexpr char kRoleSource[] = "source";
inline constexpr char kRoleTarget[] = "target";

class Edge {
 public:
  Node* child() const { return child_; }
  // Null for a user that is not a node.
  Node* parent() const { return parent_; }
  // How the parent uses the child: "file", "backing", "root", ...
  const std::string& role() const { return role_; }
  ChildPolicy policy() const { return policy_; }
  const Permissions& permissions() const { return permissions_; }
  // Constant, and the port is for any thread: its user keeps it and sends its requests there.
  const std::shared_ptr<Port>& port() const { return port_; }
  // The user without role: "node 'disk0'", "block export 'e0'".
  std::string User() const;
  // False for a job: see AttachRequest.
  bool gated() const { return gated_; }
  // "node 'disk0' (as 'file')".
  std::string Describe() const;

 private:
  friend class Graph;
  friend class PermissionUpdate;
  Edge() = default;

  Node* child_ = nullptr;
  Node* parent_ = nullptr;
  std::string user_;  // If there is no parent.
  std::string role_;
  ChildPolicy policy_ = ChildPolicy::kFixed;
  Permissions fixed_;  // As attached.
  bool gated_ = true;
  Permissions permissions_;
  std::shared_ptr<Port> port_;
};

}  // namespace tidemark::graph

#endif  // ENGINE_GRAPH_EDGE_H_
