// From the name of an instance to its engine.
#ifndef SERVICE_DISPATCH_ROUTER_H_
#define SERVICE_DISPATCH_ROUTER_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "engine/backend/backend.h"

namespace tidemark::dispatch {

// Any thread; never blocks.
class Router {
 public:
  virtual ~Router() = default;

  // Null if no engine has this name. The empty name is the native engine. A backend stays usable
  // for as long as it is held.
  virtual std::shared_ptr<backend::Backend> Find(absl::string_view instance) const = 0;
};

// What to answer if there is none: NOT_FOUND (kInstanceNotFound).
absl::Status UnknownInstance(absl::string_view instance);

}  // namespace tidemark::dispatch

#endif  // SERVICE_DISPATCH_ROUTER_H_
