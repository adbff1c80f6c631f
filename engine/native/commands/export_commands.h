// The commands about exports: nbd-server-*, block-export-*, query-block-exports.
#ifndef ENGINE_NATIVE_COMMANDS_EXPORT_COMMANDS_H_
#define ENGINE_NATIVE_COMMANDS_EXPORT_COMMANDS_H_

#include "engine/native/engine.h"
#include "engine/native/handlers.h"

namespace tidemark::native {

// `engine` must outlive the handlers. `allow_remote_nbd`: the NBD server may listen where other
// machines reach it.
void AddExportCommands(Engine* engine, bool allow_remote_nbd, Handlers* handlers);

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_COMMANDS_EXPORT_COMMANDS_H_
