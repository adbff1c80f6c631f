// The commands about nodes: blockdev-add, -del, -create, block_resize, query-named-block-nodes.
#ifndef ENGINE_NATIVE_COMMANDS_NODE_COMMANDS_H_
#define ENGINE_NATIVE_COMMANDS_NODE_COMMANDS_H_

#include "engine/native/engine.h"
#include "engine/native/handlers.h"

namespace tidemark::native {

// `engine` must outlive the handlers.
void AddNodeCommands(Engine* engine, Handlers* handlers);

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_COMMANDS_NODE_COMMANDS_H_
