// The startup file: requests that the service sends to itself before it serves anybody.
#ifndef SERVICE_STARTUP_H_
#define SERVICE_STARTUP_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/backend/command.h"
#include "engine/backend/event_log.h"
#include "service/dispatch/dispatcher.h"
#include "service/stop_request.h"

namespace tidemark {

struct StartupRequest {
  const backend::Command* command;
  // Shared with the call, which may go on when nobody waits for it any more.
  std::shared_ptr<google::protobuf::Message> body;
};

// Reads a JSON list of {"method": ..., "body": ...}. Errors name the index and the method.
absl::StatusOr<std::vector<StartupRequest>> ParseStartup(absl::string_view json);

// Reads and parses the file.
absl::StatusOr<std::vector<StartupRequest>> ReadStartupFile(const std::string& path);

// Sends them one after the other, each when the one before was answered, by the same way as those
// of clients. Stops at the first that fails; its error names index and method. Blocks. A virtual
// machine that cannot be reached yet is waited for, by the events of `log`, for `patience`. Waits
// no longer once `stop` is made: CANCELLED then, naming the request that was under way, which may
// still be carried out; `dispatcher` must outlive it.
absl::Status RunStartup(const std::vector<StartupRequest>& requests,
                        const dispatch::Dispatcher& dispatcher, backend::EventLog& log,
                        StopRequest& stop, absl::Duration patience = absl::Seconds(30));

}  // namespace tidemark

#endif  // SERVICE_STARTUP_H_
