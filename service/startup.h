// The startup file: requests that the service sends to itself before it serves anybody.
#ifndef SERVICE_STARTUP_H_
#define SERVICE_STARTUP_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/backend/command.h"
#include "service/rpc/dispatcher.h"

namespace tidemark {

struct StartupRequest {
  const backend::Command* command;
  std::unique_ptr<google::protobuf::Message> body;
};

// Reads a JSON list of {"method": ..., "body": ...}. Errors name the index and the method.
absl::StatusOr<std::vector<StartupRequest>> ParseStartup(absl::string_view json);

// Reads and parses the file.
absl::StatusOr<std::vector<StartupRequest>> ReadStartupFile(const std::string& path);

// Sends them one after the other, each when the one before was answered, by the same way as those
// of clients. Stops at the first that fails; its error names index and method. Blocks.
absl::Status RunStartup(const std::vector<StartupRequest>& requests,
                        const rpc::Dispatcher& dispatcher);

}  // namespace tidemark

#endif  // SERVICE_STARTUP_H_
