// The commands about chains of images: block-stream.
#ifndef ENGINE_NATIVE_COMMANDS_CHAIN_COMMANDS_H_
#define ENGINE_NATIVE_COMMANDS_CHAIN_COMMANDS_H_

#include "engine/native/engine.h"
#include "engine/native/handlers.h"

namespace tidemark::native {

// `engine` must outlive the handlers.
void AddChainCommands(Engine* engine, Handlers* handlers);

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_COMMANDS_CHAIN_COMMANDS_H_
