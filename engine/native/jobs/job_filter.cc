#include "engine/native/jobs/job_filter.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"

namespace tidemark::native {

absl::Status CheckIsNoJobFilter(const graph::Node& node, const std::string& job_id) {
  if (!node.is_job_filter()) return absl::OkStatus();
  return Error(Reason::kNodeBusy,
               absl::StrCat("node '", node.name(),
                            "' is the filter of another job, and goes when that ends"),
               {{"node", node.name()}, {"job", job_id}});
}

absl::Status JobFilter::Insert(graph::Edge* below, Request request) {
  below_ = below;
  graph::Node* const source = below->child();
  graph::NodeSpec spec;
  spec.name = request.node_name;
  spec.driver = std::move(request.driver);
  spec.options.discard = graph::DiscardMode::kUnmap;  // The node below decides.
  spec.options.read_only = source->read_only();
  spec.ownership = graph::Ownership::kEngine;
  spec.is_job_filter = true;
  spec.children.push_back({.edge = below, .role = graph::kRoleFile, .policy = request.policy});
  ASSIGN_OR_RETURN(node_, graph_.AddNode(std::move(spec)));
  below_ = nullptr;
  RETURN_IF_ERROR(graph_.InsertFilter(node_, source));
  is_inserted_ = true;
  ASSIGN_OR_RETURN(edge_,
                   graph_.Attach(node_, {.user = std::move(request.user),
                                         .permissions = {.shared = storage::kPermissionAll &
                                                                   ~storage::kPermissionResize},
                                         .gated = false}));
  return absl::OkStatus();
}

void JobFilter::Remove(std::vector<graph::RemovedNodes>* removed) {
  if (edge_ != nullptr) graph_.Detach(std::exchange(edge_, nullptr));
  if (std::exchange(is_inserted_, false)) {
    const absl::Status status = graph_.RemoveFilter(node_);
    // Giving users back what they had before needs no new permission.
    CHECK(status.ok());
  }
  if (node_ != nullptr) removed->push_back(graph_.RemoveNode(std::exchange(node_, nullptr)));
  if (below_ != nullptr) graph_.Detach(std::exchange(below_, nullptr));
}

}  // namespace tidemark::native
