// What a monitor says, line by line. Pure functions and plain values; any thread.
#ifndef ADAPTERS_QMP_MESSAGE_H_
#define ADAPTERS_QMP_MESSAGE_H_

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "absl/types/variant.h"
#include "adapters/qmp/json.h"

namespace tidemark::qmp {

// What a monitor says of itself when it accepts us.
struct Greeting {
  std::string version;  // "10.0.2".
  std::string package;  // "Debian 1:10.0.2+ds-2"; may be empty.
  bool oob = false;     // Offers out-of-band commands; they are not turned on.
  // The process that made a unix socket, which is QEMU itself unless somebody handed it the socket;
  // 0 if unknown.
  pid_t peer_pid = 0;
};

// QEMU's refusal of a command, in its own words.
struct QmpError {
  std::string error_class;  // "GenericError", "CommandNotFound", "DeviceNotFound" ...
  std::string desc;
};

// How a command ended: exactly one of three.
struct Reply {
  // Not OK: there is no answer; why (Connection::Execute).
  absl::Status status;
  // QEMU refused.
  absl::optional<QmpError> error;
  // QEMU obeyed: what it returned.
  Json value;

  bool ok() const { return status.ok() && !error.has_value(); }
};

// A reply and the command it is for.
struct Answer {
  // Absent: an id of another kind than ours.
  absl::optional<uint64_t> id;
  Reply reply;
};

// An event as it came: an object whose "event" is a string and whose "data", if any, is an object.
struct Event {
  Json object;
};

using Message = absl::variant<Greeting, Event, Answer>;

// Reads one line. INVALID_ARGUMENT says what makes it no line of QMP: no JSON, none of the three
// shapes, a reply without an id, an error without class or text. It has none of the line's bytes.
absl::StatusOr<Message> ReadMessage(absl::string_view line);

// The line for a command is a CommandLine and the EndOfLine of its id. INVALID_ARGUMENT
// (kInvalidField) if a string in it is not UTF-8. As short as can be, since QEMU takes each byte on
// its own, for about 2 us.
absl::StatusOr<std::string> CommandLine(absl::string_view command, const Json& arguments);
std::string EndOfLine(uint64_t id);

}  // namespace tidemark::qmp

#endif  // ADAPTERS_QMP_MESSAGE_H_
