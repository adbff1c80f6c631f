// Between the API's messages and QMP's JSON, both ways, by descriptors and the options of
// qmp/options.proto: it knows no command. Pure functions; any thread.
//
// The rules are those at the top of qmp/options.proto. Names of members may be QMP's ("node-name")
// or the proto's ("node_name") when reading. QMP has no durations and no times: those of Tidemark's
// own messages are strings, "1.5s" and RFC 3339.
#ifndef ADAPTERS_QMP_TRANSCODER_H_
#define ADAPTERS_QMP_TRANSCODER_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "adapters/qmp/json.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"

namespace tidemark::qmp {

enum class Strictness {
  // From a client: an unknown member, an unknown enum value or a value of another type is refused.
  kRequest,
  // As kRequest, but a string stands for the number, boolean or null that the field wants
  // ("speed=1000" typed at a shell), for a list by its elements with commas between, and for a
  // duration by its seconds.
  kTyped,
  // From an engine: unknown members and enum values are passed over and counted.
  kReply,
};

// Adds `json` to `message`. INVALID_ARGUMENT (kInvalidField) names the path of the member and the
// value. `unknown_count` (may be null) is raised for what kReply passes over.
absl::Status FromJson(const Json& json, Strictness strictness, google::protobuf::Message* message,
                      uint64_t* unknown_count = nullptr);

// How ToJson writes a message.
struct JsonForm {
  // Fields marked local too, and a field that is the whole as one among them.
  bool with_local = false;
  // Numbers that are zero and booleans that are false too: a reply, where they say something. In a
  // request they are absent, for they mean the default and an old engine may not know the member.
  bool with_zeros = false;
};

// What QMP would say for `message`: for one whose field is the whole, that field's value.
Json ToJson(const google::protobuf::Message& message, const JsonForm& form = JsonForm());

// QMP's names of a field and of an enum value.
std::string MemberName(const google::protobuf::FieldDescriptor& field);
std::string ValueName(const google::protobuf::EnumValueDescriptor& value);

// The oneof whose cases QMP tells apart by their JSON type; null if the message is no alternate.
const google::protobuf::OneofDescriptor* AlternateOf(const google::protobuf::Descriptor& message);

// The field that is the whole of its message; null if there is none.
const google::protobuf::FieldDescriptor* WholeField(const google::protobuf::Descriptor& message);

}  // namespace tidemark::qmp

#endif  // ADAPTERS_QMP_TRANSCODER_H_
