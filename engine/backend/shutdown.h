// The end of an engine that lives in this process.
#ifndef ENGINE_BACKEND_SHUTDOWN_H_
#define ENGINE_BACKEND_SHUTDOWN_H_

#include "engine/backend/backend.h"

namespace tidemark::backend {

// A backend that must be told to stop.
class LocalBackend : public Backend {
 public:
  // Cancels every job (with the usual events), closes exports and servers, saves persistent bitmaps
  // and closes all nodes; returns when that is done, or when what hangs has been given up. Called
  // once, from a thread that may block.
  // Calls that come later, and those still waiting, are refused with kShuttingDown.
  virtual void Shutdown() = 0;
};

}  // namespace tidemark::backend

#endif  // ENGINE_BACKEND_SHUTDOWN_H_
