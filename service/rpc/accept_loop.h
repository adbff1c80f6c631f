// A thread that accepts what connects to some sockets, and gives it on. Made and destroyed by one
// thread that may block.
#ifndef SERVICE_RPC_ACCEPT_LOOP_H_
#define SERVICE_RPC_ACCEPT_LOOP_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "engine/base/thread.h"

namespace tidemark::rpc {

class AcceptLoop {
 public:
  // They run on the thread.
  struct Hooks {
    // A connection to `listener`; it is the hook's, also if it is not taken: then the error says
    // why.
    std::function<absl::Status(int listener, int descriptor)> take;
    // What an operator should read; not often.
    std::function<void(const std::string&)> warn;
  };

  // Accepts from now on. `listeners` listen, do not block, and must outlive this; `clients` is what
  // warnings call who connects, as "a client of a unix socket". RESOURCE_EXHAUSTED: the process has
  // no descriptor left.
  static absl::StatusOr<std::unique_ptr<AcceptLoop>> Start(std::vector<int> listeners,
                                                           std::string clients, Hooks hooks);
  // No hook runs any more.
  ~AcceptLoop();
  AcceptLoop(const AcceptLoop&) = delete;
  AcceptLoop& operator=(const AcceptLoop&) = delete;

 private:
  AcceptLoop(std::vector<int> listeners, std::string clients, int wake, Hooks hooks);
  void Run();
  // False: the process has no descriptor left for it.
  bool AcceptOne(int listener);
  void Warn(const absl::Status& why);

  const std::vector<int> listeners_;
  const std::string clients_;
  const int wake_;
  const Hooks hooks_;
  // Of the thread.
  absl::optional<absl::Duration> warned_at_;
  absl::optional<Thread> thread_;
};

}  // namespace tidemark::rpc

#endif  // SERVICE_RPC_ACCEPT_LOOP_H_
