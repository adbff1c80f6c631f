// What can be said against a request without knowing any state: checked once, in front of every
// engine, from the options that the protos carry (qmp/options.proto). Knows no command. Any thread.
#ifndef ENGINE_BACKEND_VALIDATE_H_
#define ENGINE_BACKEND_VALIDATE_H_

#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "engine/backend/capabilities.h"
#include "engine/base/path_policy.h"
#include "google/protobuf/message.h"
#include "qmp/options.pb.h"

namespace tidemark::backend {

// The first breach, down every nested message: unknown fields and enum values, then what is
// required, then ranges and forms, then rules over several fields. INVALID_ARGUMENT (kInvalidField,
// kInvalidCombination) with the path of the field, as "actions[1].blockdev_backup.speed", in the
// message and in metadata `field`.
absl::Status Validate(const google::protobuf::Message& request);

// UNIMPLEMENTED (kFieldUnsupported) for a field that is set and confined to another engine.
absl::Status CheckEngine(const google::protobuf::Message& request, EngineKind engine);

// INVALID_ARGUMENT (kInvalidCombination) for a request that would have a QEMU find out by itself
// what format a file has: not where the names of files are confined, but what they hold is not.
absl::Status CheckUnprobed(const google::protobuf::Message& request);

// Shows each file name in the request to `check`; the first refusal, with the field's path before
// it.
absl::Status CheckPaths(
    const google::protobuf::Message& request,
    absl::FunctionRef<absl::Status(absl::string_view file_name, ::qmp::Path use)> check);

// A file name in a request that counts from no other file: all but what is recorded as relative.
struct FileName {
  std::string field;  // Its path in the request.
  std::string name;
};

// The file names in the request that are to be looked up, in order.
std::vector<FileName> FileNamesOf(const google::protobuf::Message& request);

// Whether `policy` allows the file names in the request. Asks the disk: a thread that may block.
absl::Status CheckPaths(const google::protobuf::Message& request, const PathPolicy& policy);

}  // namespace tidemark::backend

#endif  // ENGINE_BACKEND_VALIDATE_H_
