// The commands about mirrors: blockdev-mirror, drive-mirror.
#ifndef ENGINE_NATIVE_COMMANDS_MIRROR_COMMANDS_H_
#define ENGINE_NATIVE_COMMANDS_MIRROR_COMMANDS_H_

#include "engine/native/engine.h"
#include "engine/native/handlers.h"

namespace tidemark::native {

// `engine` must outlive the handlers.
void AddMirrorCommands(Engine* engine, Handlers* handlers);

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_COMMANDS_MIRROR_COMMANDS_H_
