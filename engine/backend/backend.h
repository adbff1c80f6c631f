// THE SEAM. A block layer that obeys QMP block commands: the native engine or a live QEMU.
#ifndef ENGINE_BACKEND_BACKEND_H_
#define ENGINE_BACKEND_BACKEND_H_

#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "engine/backend/capabilities.h"
#include "engine/backend/command.h"
#include "google/protobuf/message.h"

namespace tidemark::backend {

// Safe to use from any thread.
class Backend {
 public:
  using Done = std::function<void(absl::Status)>;
  virtual ~Backend() = default;

  // Starts `command` and returns at once. Those that change the graph start and end in call order
  // as far as they touch the same part of it; queries and verbs may overtake them. `done` runs
  // exactly once, on any thread; `*result` is meaningful only if its status is OK. `request` and
  // `result` must outlive `done`.
  virtual void Call(const Command& command, const google::protobuf::Message& request,
                    google::protobuf::Message* result, Done done) = 0;

  // What works here. Constant while connected; the last known while the connection to a virtual
  // machine is down; null until there has been one.
  virtual std::shared_ptr<const Capabilities> capabilities() const = 0;
};

}  // namespace tidemark::backend

#endif  // ENGINE_BACKEND_BACKEND_H_
