// The commands that are transactions: bitmaps, backups, and `transaction` itself.
#ifndef ENGINE_NATIVE_COMMANDS_TRANSACTION_COMMANDS_H_
#define ENGINE_NATIVE_COMMANDS_TRANSACTION_COMMANDS_H_

#include "engine/native/engine.h"
#include "engine/native/handlers.h"

namespace tidemark::native {

// `engine` must outlive the handlers.
void AddTransactionCommands(Engine* engine, Handlers* handlers);

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_COMMANDS_TRANSACTION_COMMANDS_H_
