#include "adapters/qmp/message.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"

namespace tidemark::qmp {
namespace {

absl::Status Refuse(absl::string_view what) { return Error(Reason::kInvalidField, what); }

// The number, or -1.
int64_t NumberMember(const Json& json, const char* name) {
  const Json* const member = Member(json, name);
  return member != nullptr && member->is_number_unsigned() ? member->get<int64_t>() : -1;
}

absl::StatusOr<Message> ReadGreeting(const Json& qmp) {
  const Json* const version = Member(qmp, "version");
  const Json* const numbers = version == nullptr ? nullptr : Member(*version, "qemu");
  if (numbers == nullptr) return Refuse("a greeting without QEMU's version");
  const int64_t major = NumberMember(*numbers, "major");
  const int64_t minor = NumberMember(*numbers, "minor");
  const int64_t micro = NumberMember(*numbers, "micro");
  if (major < 0 || minor < 0 || micro < 0) return Refuse("a greeting with a strange version");

  Greeting greeting;
  greeting.version = absl::StrCat(major, ".", minor, ".", micro);
  if (const std::string* package = StringMember(*version, "package")) {
    greeting.package = Utf8Prefix(*package, kIdentityBytesMax);
  }
  if (const Json* capabilities = Member(qmp, "capabilities");
      capabilities != nullptr && capabilities->is_array()) {
    for (const Json& capability : *capabilities) greeting.oob |= capability == "oob";
  }
  return greeting;
}

absl::StatusOr<Message> ReadEvent(Json line) {
  if (StringMember(line, "event") == nullptr) return Refuse("an event whose name is no string");
  if (const Json* data = Member(line, "data"); data != nullptr && !data->is_object()) {
    return Refuse("an event whose data is no object");
  }
  return Event{std::move(line)};
}

absl::StatusOr<QmpError> ReadError(const Json& error) {
  const std::string* const error_class = StringMember(error, "class");
  const std::string* const desc = StringMember(error, "desc");
  if (error_class == nullptr || desc == nullptr) return Refuse("an error without class or desc");
  return QmpError{Utf8Prefix(*error_class, kShownBytesMax), Utf8Prefix(*desc, kErrorTextBytesMax)};
}

}  // namespace

absl::StatusOr<Message> ReadMessage(absl::string_view line) {
  ASSIGN_OR_RETURN(Json json, ParseJson(line));
  if (!json.is_object()) return Refuse("a line that is no object");
  if (const Json* qmp = Member(json, "QMP")) return ReadGreeting(*qmp);
  if (Member(json, "event") != nullptr) return ReadEvent(std::move(json));

  Answer answer;
  const Json* const error = Member(json, "error");
  if (error != nullptr) {
    ASSIGN_OR_RETURN(answer.reply.error, ReadError(*error));
  } else if (const auto value = json.find("return"); value != json.end()) {
    answer.reply.value = std::move(*value);
  } else {
    return Refuse("a line that is neither greeting, event nor reply");
  }
  const Json* const id = Member(json, "id");
  if (id == nullptr) {
    return Refuse(error != nullptr ? "an error for no command" : "a reply for no command");
  }
  if (id->is_number_unsigned()) answer.id = id->get<uint64_t>();
  return answer;
}

absl::StatusOr<std::string> CommandLine(absl::string_view command, const Json& arguments) {
  Json line = {{"execute", std::string(command)}};
  if (!arguments.empty()) line["arguments"] = arguments;
  try {
    std::string text = line.dump();
    text.pop_back();
    return text;
  } catch (const Json::type_error&) {
    return Error(Reason::kInvalidField,
                 absl::StrCat("cannot send ", command, ": a string in it is not UTF-8"));
  }
}

std::string EndOfLine(uint64_t id) { return absl::StrCat(",\"id\":", id, "}\n"); }

}  // namespace tidemark::qmp
