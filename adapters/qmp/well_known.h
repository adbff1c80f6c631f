// The times and durations of Tidemark's own messages as text. Pure functions; any thread.
#ifndef ADAPTERS_QMP_WELL_KNOWN_H_
#define ADAPTERS_QMP_WELL_KNOWN_H_

#include <string>

#include "absl/strings/string_view.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"

namespace tidemark::qmp {

// Whether it is google.protobuf.Duration or google.protobuf.Timestamp.
bool IsWellKnown(const google::protobuf::Descriptor& type);

// "1.5s", "2026-03-01T12:00:00.25Z". `message` is of a type that IsWellKnown.
std::string WellKnownToText(const google::protobuf::Message& message);

// Reads what WellKnownToText writes; for a duration also "100ms", "2m", "1h30m". False, with
// `message` as it was, if `text` is neither.
bool WellKnownFromText(absl::string_view text, google::protobuf::Message* message);

// What to call such a value in an error.
std::string WellKnownForm(const google::protobuf::Descriptor& type);

}  // namespace tidemark::qmp

#endif  // ADAPTERS_QMP_WELL_KNOWN_H_
