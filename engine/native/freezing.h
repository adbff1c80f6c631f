// The end of writing to an image above which another has been put.
#ifndef ENGINE_NATIVE_FREEZING_H_
#define ENGINE_NATIVE_FREEZING_H_

#include "engine/native/engine.h"

namespace tidemark::native {

// Stores the bitmaps of a frozen node (Graph::Freeze) and lets go of the right to write its file.
// Where that cannot be done yet (a job may still have to change a persistent bitmap, a disk is
// full) the node stays frozen, and it is done when the job ends, or when the node is closed. Does
// nothing for other nodes. A graph-command worker.
void FinishFreezing(Engine& engine, graph::Node* node);

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_FREEZING_H_
