// What all connections of a server share, and must not use up. A plain value; any thread.
#ifndef ENGINE_NBD_BUDGETS_H_
#define ENGINE_NBD_BUDGETS_H_

#include "absl/time/time.h"
#include "engine/base/budget.h"
#include "engine/nbd/limits.h"

namespace tidemark::nbd {

struct Budgets {
  // Bytes, for requests that need more than kUnbudgetedBytesMax. Outlives the connections.
  Budget* memory = nullptr;
  // Threads beyond the first of a connection. Outlives the connections.
  Budget* helpers = nullptr;
  absl::Duration stalled_client_max = kStalledClientMax;
};

}  // namespace tidemark::nbd

#endif  // ENGINE_NBD_BUDGETS_H_
