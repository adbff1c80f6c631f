#include "engine/graph/edge.h"

#include "absl/strings/str_cat.h"
#include "engine/graph/node.h"

namespace tidemark::graph {

std::string Edge::User() const {
  return parent_ == nullptr ? user_ : absl::StrCat("node '", parent_->name(), "'");
}

std::string Edge::Describe() const { return absl::StrCat(User(), " (as '", role_, "')"); }

}  // namespace tidemark::graph
