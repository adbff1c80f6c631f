// Which users of a node write to it through others. Engine thread.
#ifndef ENGINE_NATIVE_JOB_WRITES_H_
#define ENGINE_NATIVE_JOB_WRITES_H_

#include "absl/status/status.h"
#include "engine/graph/node.h"

namespace tidemark::native {

// What is written to the node above it is written to the node below, too: not through the backing
// disk of an image.
bool HandsWritesOn(const graph::Edge* edge);

// NODE_BUSY if a job writes to the node, or to one above that hands it on: only guests are held at
// an instant, and such a job would go on beneath what takes the place of the node then.
absl::Status CheckNoJobWrites(const graph::Node& node);

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_JOB_WRITES_H_
