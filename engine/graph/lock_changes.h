// The image locks that follow from a change of the graph. The graph itself is changed on the engine
// thread, which waits for no disk; the locks are changed afterwards, on a worker.
#ifndef ENGINE_GRAPH_LOCK_CHANGES_H_
#define ENGINE_GRAPH_LOCK_CHANGES_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/graph/driver.h"

namespace tidemark::graph {

// A driver that was told of new permissions, and its node's name.
struct ToldDriver {
  std::shared_ptr<Driver> driver;
  std::string node_name;
};

class LockChanges {
 public:
  LockChanges() = default;
  // In the order in which they were told.
  explicit LockChanges(std::vector<ToldDriver> told) : told_(std::move(told)) {}

  bool empty() const { return told_.empty(); }

  // Every driver applies what it was told; goes on after a refusal, and returns the first. After
  // one the change is undone on the engine thread, and what follows from that is applied likewise:
  // going back to what was held needs nothing new. Worker.
  absl::Status Apply() const {
    absl::Status first;
    for (const ToldDriver& told : told_) {
      first.Update(
          Annotate(told.driver->ApplyPermissions(), absl::StrCat("node '", told.node_name, "'")));
    }
    return first;
  }

 private:
  std::vector<ToldDriver> told_;
};

}  // namespace tidemark::graph

#endif  // ENGINE_GRAPH_LOCK_CHANGES_H_
