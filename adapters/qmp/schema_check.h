// Whether a QEMU understands a request, told before anything is sent. Reads descriptors and the
// options of qmp/options.proto; knows no command. Pure functions; any thread.
#ifndef ADAPTERS_QMP_SCHEMA_CHECK_H_
#define ADAPTERS_QMP_SCHEMA_CHECK_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "adapters/qmp/schema.h"
#include "engine/backend/command.h"
#include "google/protobuf/message.h"

namespace tidemark::qmp {

// UNIMPLEMENTED for the first thing in `request` that the QEMU of `schema` does not have: the
// command (kCommandUnsupported), or a field that is set, an enum value, a case of a union
// (kFieldUnsupported, metadata `field` with the path as the proto spells it). `version` is for the
// message.
absl::Status CheckSupported(const Schema& schema, absl::string_view version,
                            const backend::Command& command,
                            const google::protobuf::Message& request);

// The paths of all fields of the command's request that CheckSupported would refuse. A type that
// contains itself is entered once on each path.
std::vector<std::string> UnsupportedFields(const Schema& schema, const backend::Command& command);

}  // namespace tidemark::qmp

#endif  // ADAPTERS_QMP_SCHEMA_CHECK_H_
