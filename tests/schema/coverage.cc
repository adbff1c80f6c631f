#include "tests/schema/coverage.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "engine/backend/command.h"
#include "qmp/options.pb.h"
#include "tidemark/block/v1/event.pb.h"

namespace tidemark::test {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::OneofDescriptor;

std::string Kebab(absl::string_view name) {
  return absl::StrReplaceAll(absl::AsciiStrToLower(name), {{"_", "-"}});
}

std::string NameOf(const FieldDescriptor& field) {
  const std::string& given = field.options().GetExtension(qmp::name);
  return given.empty() ? Kebab(field.name()) : given;
}

std::string NameOf(const EnumValueDescriptor& value) {
  const std::string& given = value.options().GetExtension(qmp::value);
  if (!given.empty()) return given;
  const std::string& first = value.type()->value(0)->name();
  return Kebab(value.name().substr(first.size() - std::string("UNSPECIFIED").size()));
}

// The field is QMP's, not Tidemark's.
bool IsMirrored(const FieldDescriptor& field) {
  return field.options().GetExtension(qmp::local) == qmp::LOCAL_UNSPECIFIED &&
         field.options().GetExtension(qmp::only) != qmp::ENGINE_NATIVE;
}

const FieldDescriptor* Whole(const Descriptor& message) {
  for (int i = 0; i < message.field_count(); ++i) {
    if (message.field(i)->options().GetExtension(qmp::whole)) return message.field(i);
  }
  return nullptr;
}

const OneofDescriptor* TagOf(const FieldDescriptor& field) {
  const OneofDescriptor* const oneof = field.real_containing_oneof();
  return oneof != nullptr && oneof->options().HasExtension(qmp::tag) ? oneof : nullptr;
}

// The members of QMP's object that the message stands for, but those of its unions.
std::map<std::string, const FieldDescriptor*> MembersOf(const Descriptor& message) {
  std::map<std::string, const FieldDescriptor*> members;
  for (int i = 0; i < message.field_count(); ++i) {
    const FieldDescriptor& field = *message.field(i);
    if (IsMirrored(field) && TagOf(field) == nullptr) members[NameOf(field)] = &field;
  }
  return members;
}

std::map<std::string, const OneofDescriptor*> UnionsOf(const Descriptor& message) {
  std::map<std::string, const OneofDescriptor*> unions;
  for (int i = 0; i < message.real_oneof_decl_count(); ++i) {
    const OneofDescriptor& oneof = *message.oneof_decl(i);
    const std::string& tag = oneof.options().GetExtension(qmp::tag);
    if (!tag.empty()) unions[tag] = &oneof;
  }
  return unions;
}

// JSON's type of what the field holds, in the schema's words.
std::string JsonTypeOf(const FieldDescriptor& field) {
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      return "boolean";
    case FieldDescriptor::CPPTYPE_DOUBLE:
    case FieldDescriptor::CPPTYPE_FLOAT:
      return "number";
    case FieldDescriptor::CPPTYPE_STRING:
    case FieldDescriptor::CPPTYPE_ENUM:
      return "string";
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return field.options().GetExtension(qmp::null) ? "null" : "object";
    default:
      return "int";
  }
}

bool IsDeprecated(const Json& entry) {
  const Json features = entry.value("features", Json::array());
  return std::find(features.begin(), features.end(), "deprecated") != features.end();
}

}  // namespace

void Coverage::Differs(const std::string& item, const std::string& how) {
  findings_.different[item] = how;
}

void Coverage::AddCommand(const std::string& name) {
  const auto found = schema_.commands().find(name);
  if (found == schema_.commands().end()) return;
  const std::string item = "command " + name;
  findings_.wanted.insert(item);
  const backend::Command* const command = backend::CommandIndex::Get().ByQmpName(name);
  if (command == nullptr) {
    findings_.missing[item] = "no RPC mirrors it";
    return;
  }
  findings_.sought.insert(item);
  if (IsDeprecated(found->second) && command->deprecated.empty()) {
    Differs(item, "QEMU calls it deprecated, the protos do not");
  }
  Arguments(found->second["arg-type"], *command->method->input_type(),
            name == "blockdev-reopen" ? Direction::kReopened : Direction::kToQemu);
  Returned(found->second["ret-type"], *command->method->output_type());
}

void Coverage::AddEvent(const std::string& name) {
  const auto found = schema_.events().find(name);
  if (found == schema_.events().end()) return;
  const std::string item = "event " + name;
  findings_.wanted.insert(item);
  const Descriptor& event = *block::v1::Event::descriptor();
  for (int i = 0; i < event.field_count(); ++i) {
    const Descriptor* const message = event.field(i)->message_type();
    if (message == nullptr || message->options().GetExtension(qmp::event) != name) continue;
    findings_.sought.insert(item);
    Object(schema_.Type(std::string(found->second["arg-type"])), *message, Direction::kFromQemu);
    return;
  }
  findings_.missing[item] = "no message mirrors it";
}

void Coverage::AddWhatIsUnknown() {
  for (const auto& command : backend::CommandIndex::Get().commands()) {
    const std::string item = "command " + command->qmp_name;
    findings_.sought.insert(item);
    if (schema_.commands().count(command->qmp_name) == 0) {
      findings_.unknown[item] = "QEMU has no such command";
    }
  }
  const Descriptor& event = *block::v1::Event::descriptor();
  for (int i = 0; i < event.field_count(); ++i) {
    const Descriptor* const message = event.field(i)->message_type();
    if (message == nullptr || !message->options().HasExtension(qmp::event)) continue;
    const std::string& name = message->options().GetExtension(qmp::event);
    findings_.sought.insert("event " + name);
    if (schema_.events().count(name) == 0) {
      findings_.unknown["event " + name] = "QEMU has no such event";
    }
  }
}

void Coverage::Arguments(const std::string& type, const Descriptor& request, Direction direction) {
  const FieldDescriptor* const whole = Whole(request);
  Object(schema_.Type(type), whole == nullptr ? request : *whole->message_type(), direction);
}

void Coverage::Returned(const std::string& type, const Descriptor& response) {
  const FieldDescriptor* const whole = Whole(response);
  if (whole == nullptr) {
    Object(schema_.Type(type), response, Direction::kFromQemu);
  } else {
    Value(absl::StrCat("member ", response.name(), ".", whole->name()), type, *whole,
          Direction::kFromQemu);
  }
}

void Coverage::Object(const Json& type, const Descriptor& message, Direction direction) {
  const std::string type_name = type["name"];
  if (!compared_.emplace(type_name, message.full_name(), direction).second) return;
  if (type["meta-type"] != "object") {
    return Differs("message " + message.name(), "QEMU has no object here, but " + type.dump());
  }
  const auto members = MembersOf(message);
  const auto unions = UnionsOf(message);
  const std::string tag = type.value("tag", "");
  std::set<std::string> known;
  for (const Json& member : type["members"]) {
    Member(member, message, direction);
    known.insert(std::string(member["name"]));
  }
  // A union that the protos tell without one: its tag and the members of every branch lie flat.
  const bool is_flat = !tag.empty() && unions.count(tag) == 0 && members.count(tag) == 1;
  for (const Json& variant : is_flat ? type["variants"] : Json::array()) {
    const Json& body = schema_.Type(std::string(variant["type"]));
    for (const Json& member : body["members"]) {
      Member(member, message, direction);
      known.insert(std::string(member["name"]));
    }
  }
  const auto must_be_known = [&](const std::string& name) {
    const std::string item = absl::StrCat("member ", message.name(), ".", name);
    findings_.sought.insert(item);
    if (known.count(name) == 0) findings_.unknown[item] = "QEMU has no such member";
  };
  for (const auto& member : members) must_be_known(member.first);
  for (const auto& oneof : unions) must_be_known(oneof.first);
  for (const auto& oneof : unions) {
    if (oneof.first != tag) {
      Differs(absl::StrCat("member ", message.name(), ".", oneof.first), "QEMU has no union here");
    }
  }
  if (tag.empty() || is_flat) return;
  const auto oneof = unions.find(tag);
  Union(type, message, oneof == unions.end() ? nullptr : oneof->second, direction);
}

void Coverage::Member(const Json& member, const Descriptor& message, Direction direction) {
  const auto members = MembersOf(message);
  const std::string name = member["name"];
  const std::string item = absl::StrCat("member ", message.name(), ".", name);
  findings_.wanted.insert(item);
  const auto field = members.find(name);
  if (field != members.end()) {
    findings_.sought.insert(item);
    Presence(item, member, *field->second, direction);
    Value(item, member["type"], *field->second, direction);
  } else if (UnionsOf(message).count(name) == 0) {
    findings_.missing[item] = "no field mirrors it";
  }
}

void Coverage::Presence(const std::string& item, const Json& member, const FieldDescriptor& field,
                        Direction direction) {
  const bool is_optional = member.contains("default");
  // An enumeration says by UNSPECIFIED, and a list by being empty, that it is not there.
  const bool tells = field.has_presence() || field.is_repeated() || field.enum_type() != nullptr;
  if (is_optional && !tells) {
    const char* const how = "QEMU tells absent from zero, false and \"\", the protos do not";
    direction == Direction::kToQemu ? void(findings_.merged[item] = how) : Differs(item, how);
  }
  if (direction == Direction::kFromQemu) return;
  const bool is_required = field.options().GetExtension(qmp::required);
  if (!is_optional && !is_required) Differs(item, "QEMU requires it, the protos do not");
  if (is_optional && is_required) Differs(item, "the protos require it, QEMU does not");
}

void Coverage::Union(const Json& type, const Descriptor& message, const OneofDescriptor* oneof,
                     Direction direction) {
  const std::string name_of_all = absl::StrCat(message.name(), ".", std::string(type["tag"]), "=");
  std::map<std::string, const FieldDescriptor*> cases;
  for (int i = 0; oneof != nullptr && i < oneof->field_count(); ++i) {
    if (IsMirrored(*oneof->field(i))) cases[NameOf(*oneof->field(i))] = oneof->field(i);
  }
  std::set<std::string> known;
  for (const Json& variant : type["variants"]) {
    const std::string name = variant["case"];
    const Json& body = schema_.Type(std::string(variant["type"]));
    const bool is_empty = body["members"].empty() && !body.contains("tag");
    const std::string item =
        absl::StrCat(is_empty ? "empty branch " : "branch ", name_of_all, name);
    known.insert(name);
    findings_.wanted.insert(item);
    const auto found = cases.find(name);
    if (found != cases.end()) {
      Branch(item, body, *found->second, direction);
    } else {
      findings_.missing[item] = "no case mirrors it";
    }
  }
  for (const auto& field : cases) {
    const std::string item = absl::StrCat("branch ", name_of_all, field.first);
    findings_.sought.insert(item);
    if (known.count(field.first) == 0) findings_.unknown[item] = "QEMU has no such branch";
  }
}

void Coverage::Branch(const std::string& item, const Json& type, const FieldDescriptor& field,
                      Direction direction) {
  if (field.message_type() == nullptr) return Differs(item, "is no message in the protos");
  if (!field.containing_oneof()->options().GetExtension(qmp::wrapped)) {
    return Object(type, *field.message_type(), direction);
  }
  if (type["members"].size() != 1 || type["members"][0]["name"] != "data") {
    return Differs(item, "is wrapped in the protos, but not in QEMU");
  }
  Value(item, type["members"][0]["type"], field, direction);
}

void Coverage::Value(const std::string& item, const std::string& type, const FieldDescriptor& field,
                     Direction direction) {
  const Json& entry = schema_.Type(type);
  const bool is_array = entry["meta-type"] == "array";
  if (is_array != field.is_repeated()) {
    return Differs(item, is_array ? "is a list in QEMU only" : "is a list in the protos only");
  }
  Single(item, is_array ? std::string(entry["element-type"]) : type, field, direction);
}

void Coverage::Single(const std::string& item, const std::string& type,
                      const FieldDescriptor& field, Direction direction) {
  const Json& entry = schema_.Type(type);
  const std::string kind = entry["meta-type"];
  if (kind == "enum") return Enum(item, entry, field);
  if (kind == "alternate") return Alternate(item, entry, field, direction);
  const std::string wanted = kind == "object" ? kind : entry.value("json-type", kind);
  const std::string is = JsonTypeOf(field);
  if (wanted != is || field.cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
    return Differs(item, absl::StrCat("is of type ", wanted, " in QEMU, but ", field.type_name(),
                                      " in the protos"));
  }
  if (kind == "object") Object(entry, *field.message_type(), direction);
}

void Coverage::Enum(const std::string& item, const Json& type, const FieldDescriptor& field) {
  if (field.enum_type() == nullptr) return Differs(item, "is an enumeration in QEMU only");
  const std::string prefix = absl::StrCat("value ", field.enum_type()->name(), ".");
  std::set<std::string> ours;
  for (int i = 1; i < field.enum_type()->value_count(); ++i) {
    ours.insert(NameOf(*field.enum_type()->value(i)));
  }
  std::set<std::string> theirs;
  for (const Json& value : type["values"]) theirs.insert(std::string(value));
  for (const std::string& value : theirs) {
    findings_.wanted.insert(prefix + value);
    if (ours.count(value) == 0) findings_.missing[prefix + value] = "no value mirrors it";
  }
  for (const std::string& value : ours) {
    findings_.sought.insert(prefix + value);
    if (theirs.count(value) == 0) findings_.unknown[prefix + value] = "QEMU has no such value";
  }
}

void Coverage::Alternate(const std::string& item, const Json& type, const FieldDescriptor& field,
                         Direction direction) {
  const Descriptor* const message = field.message_type();
  const OneofDescriptor* const oneof = message != nullptr && message->real_oneof_decl_count() == 1
                                           ? message->oneof_decl(0)
                                           : nullptr;
  if (oneof == nullptr || !oneof->options().GetExtension(qmp::alternate)) {
    return Differs(item, "is an alternate in QEMU only");
  }
  const std::string prefix = absl::StrCat("alternative ", message->name(), ".");
  std::map<std::string, const FieldDescriptor*> ours;
  for (int i = 0; i < oneof->field_count(); ++i) {
    ours[JsonTypeOf(*oneof->field(i))] = oneof->field(i);
  }
  std::set<std::string> known;
  for (const Json& member : type["members"]) {
    const Json& entry = schema_.Type(std::string(member["type"]));
    const std::string kind = entry["meta-type"];
    const std::string json_type = kind == "enum" ? "string" : entry.value("json-type", kind);
    known.insert(json_type);
    findings_.wanted.insert(prefix + json_type);
    const auto found = ours.find(json_type);
    if (found == ours.end()) {
      findings_.missing[prefix + json_type] = "no case mirrors it";
    } else if (json_type != "null") {
      Single(prefix + json_type, member["type"], *found->second, direction);
    }
  }
  for (const auto& alternative : ours) {
    findings_.sought.insert(prefix + alternative.first);
    if (known.count(alternative.first) == 0) {
      findings_.unknown[prefix + alternative.first] = "QEMU takes no such value";
    }
  }
}

}  // namespace tidemark::test
