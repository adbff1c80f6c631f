// A request as typed at a shell: key=value, dotted keys for nested members, JSON for what is more
// than a word. Pure functions; any thread.
#ifndef SERVICE_CLI_ARGUMENTS_H_
#define SERVICE_CLI_ARGUMENTS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "adapters/qmp/transcoder.h"
#include "google/protobuf/message.h"

namespace tidemark::cli {

// The JSON object that `arguments` say: "file.driver=file" is {"file":{"driver":"file"}}. Scalars
// are strings; a value that begins with '{' or '[' is JSON. INVALID_ARGUMENT: no '=', a key given
// twice, a key inside a plain value, broken JSON.
absl::StatusOr<qmp::Json> JsonFromArguments(const std::vector<std::string>& arguments);

// The JSON object of a request that is given whole. INVALID_ARGUMENT: it is none.
absl::StatusOr<qmp::Json> JsonFromText(const std::string& text);

// Fills `request` from `json`. `instance` (unless nullopt) names the engine, in a request that is
// for one; one that looks over all engines then looks at this one only.
absl::Status FillRequest(const qmp::Json& json, qmp::Strictness strictness,
                         const absl::optional<std::string>& instance,
                         google::protobuf::Message* request);

}  // namespace tidemark::cli

#endif  // SERVICE_CLI_ARGUMENTS_H_
