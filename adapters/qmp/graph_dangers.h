// Requests over which QEMU ends because of how its nodes hang together, and what is said instead of
// sending them. Precaution asks for the graph. Pure functions; any thread.
#ifndef ADAPTERS_QMP_GRAPH_DANGERS_H_
#define ADAPTERS_QMP_GRAPH_DANGERS_H_

#include <functional>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "adapters/qmp/graph_view.h"
#include "adapters/qmp/json.h"
#include "adapters/qmp/schema.h"
#include "engine/backend/command.h"
#include "engine/base/error.h"
#include "google/protobuf/message.h"
#include "tidemark/block/v1/blockdev_options.pb.h"

namespace tidemark::qmp {

// A refusal of our own, which says so.
absl::Status Refuse(const backend::Command& command, Reason reason, absl::string_view why,
                    std::initializer_list<std::pair<absl::string_view, absl::string_view>> named);

// What came with the change that made a copy keep its bitmaps to itself, in QEMU 9.1.
bool CopiesKeepTheirBitmaps(const Schema& schema);
// The nodes on which copy-before-write nodes are to stand.
std::vector<std::string> CopiedNodes(const ::tidemark::block::v1::BlockdevOptions& options);

// OK, or why the request must not be sent to a QEMU with such nodes.
using GraphCheck = std::function<absl::Status(const GraphView& graph)>;

// What must be checked of `request`, the arguments of `command`, or of the actions of a
// transaction. None for most. Those of blockdev-reopen and of exports need the records of the
// nodes, too. `request` must outlive them.
std::vector<GraphCheck> GraphChecks(const backend::Command& command,
                                    const google::protobuf::Message& request, const Schema& schema);

}  // namespace tidemark::qmp

#endif  // ADAPTERS_QMP_GRAPH_DANGERS_H_
