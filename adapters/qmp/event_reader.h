// From QMP's events to those of the log, by the option qmp.event. Pure; any thread.
#ifndef ADAPTERS_QMP_EVENT_READER_H_
#define ADAPTERS_QMP_EVENT_READER_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "adapters/qmp/schema.h"
#include "adapters/qmp/transcoder.h"
#include "engine/backend/event_log.h"

namespace tidemark::qmp {

// `json` is the whole object: event, data, timestamp. Nothing for an event that the API does not
// have. INVALID_ARGUMENT if its data are not of the type that the API gives them.
absl::StatusOr<absl::optional<backend::Event>> ReadEvent(const Json& json, uint64_t* unknown_count);

// The events of the API that a QEMU may send, and those that Tidemark makes for every engine.
std::vector<::tidemark::block::v1::EventKind> KindsOf(const Schema& schema);

}  // namespace tidemark::qmp

#endif  // ADAPTERS_QMP_EVENT_READER_H_
