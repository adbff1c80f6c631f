// What a user of a node does to it, and what it lets others do. Two users of one node agree if each
// one's uses are shared by the other. Plain values; any thread.
#ifndef ENGINE_GRAPH_PERMISSIONS_H_
#define ENGINE_GRAPH_PERMISSIONS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/storage/permission.h"

namespace tidemark::graph {

using storage::PermissionSet;

struct Permissions {
  // What this user does, and what it lets others do meanwhile.
  PermissionSet used = storage::kPermissionNone;
  PermissionSet shared = storage::kPermissionAll;

  friend constexpr bool operator==(const Permissions&, const Permissions&) = default;
};

// One user of a node, for finding a conflict.
struct PermissionUser {
  std::string description;  // "node 'disk0' (as 'file')", "block export 'e0' (as 'root')".
  Permissions permissions;
};

// OK if all users agree, else PERMISSION_CONFLICT naming node, permissions, and both users.
absl::Status CheckAgreement(absl::string_view node_name, absl::Span<const PermissionUser> users);

// How a node's use of a child follows from how the node itself is used.
enum class ChildPolicy {
  // What the edge was attached with, always.
  kFixed,
  // The node's users reach through it, and it is as large as the child: raw, filters.
  kFilter,
  // As kFilter, but it shows a part of the child (raw with an offset or a size): nobody else may
  // change the child's size.
  kWindow,
  // As kFilter, and others may neither write nor resize while the filter has users: a copy before
  // write must see every change.
  kCopyBeforeWrite,
  // A format keeps metadata there: writes and resizes even if its users do not, and no one else
  // may.
  kFormatFile,
  // Read below an overlay; may change under it only if the overlay's users can live with that.
  kBacking,
};

// The permissions of an edge to a child of a node. `users` joins the node's own users (used: what
// any of them does; shared: what all of them share); `fixed` is what the edge was attached with.
Permissions ChildPermissions(ChildPolicy policy, const Permissions& users, bool has_users,
                             bool read_only, const Permissions& fixed);

}  // namespace tidemark::graph

#endif  // ENGINE_GRAPH_PERMISSIONS_H_
