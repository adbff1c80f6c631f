#include "engine/native/job_writes.h"

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/storage/permission.h"

namespace tidemark::native {
namespace {

absl::Status CheckNoJobWritesBelow(const graph::Node& node, const graph::Node& named) {
  for (const graph::Edge* edge : node.parents()) {
    if (HandsWritesOn(edge)) {
      RETURN_IF_ERROR(CheckNoJobWritesBelow(*edge->parent(), named));
      continue;
    }
    const bool writes = (edge->permissions().used & storage::kPermissionWrite) != 0;
    if (edge->parent() != nullptr || edge->gated() || !writes) continue;
    return Error(Reason::kNodeBusy,
                 absl::StrCat("node '", named.name(), "' is written by ", edge->User(),
                              ", by way of node '", node.name(), "'"),
                 {{"node", named.name()}, {"user", edge->User()}});
  }
  return absl::OkStatus();
}

}  // namespace

bool HandsWritesOn(const graph::Edge* edge) {
  return edge->parent() != nullptr && edge->policy() != graph::ChildPolicy::kBacking;
}

absl::Status CheckNoJobWrites(const graph::Node& node) { return CheckNoJobWritesBelow(node, node); }

}  // namespace tidemark::native
