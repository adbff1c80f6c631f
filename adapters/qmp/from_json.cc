// A message is read member by member. A member that the message itself does not have may belong to
// the chosen case of a union that lies flat beside its tag, so the tags are read first.
#include <limits>
#include <set>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "adapters/qmp/limits.h"
#include "adapters/qmp/transcoder.h"
#include "adapters/qmp/well_known.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "qmp/options.pb.h"

namespace tidemark::qmp {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::OneofDescriptor;
using google::protobuf::Reflection;

// How deep JSON may be nested.
constexpr int kDepthMax = 64;
// In a reply a chain of images is told nested. Readers of protobuf stop at 100 levels.
constexpr int kReplyDepthMax = 90;

std::string Shown(const Json& json) {
  std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > kShownBytesMax) text = text.substr(0, kShownBytesMax) + "...";
  return text;
}

class Reader {
 public:
  Reader(Strictness strictness, uint64_t* unknown_count)
      : strictness_(strictness), unknown_count_(unknown_count) {}

  absl::Status Whole(const Json& json, Message* message) {
    const FieldDescriptor* const whole = WholeField(*message->GetDescriptor());
    if (whole == nullptr) return Object(json, message, "", 0);
    return Field(json, *whole, message, whole->is_repeated() ? "[]" : "", 0);
  }

 private:
  using Members = std::set<std::string>;

  absl::Status Refuse(const std::string& path, absl::string_view what) const {
    return Error(Reason::kInvalidField,
                 absl::StrCat(path.empty() ? "the arguments" : path, ": ", what),
                 {{"field", path}});
  }
  absl::Status Unexpected(const std::string& path, const Json& json, absl::string_view wanted) {
    // Whoever wrote a request knows it. What a peer says is not passed on to somebody else.
    return Refuse(path, absl::StrCat("expected ", wanted, ", not ",
                                     strictness_ == Strictness::kReply
                                         ? absl::StrCat("this ", json.type_name())
                                         : Shown(json)));
  }
  static std::string Join(const std::string& path, absl::string_view name) {
    return path.empty() ? std::string(name) : absl::StrCat(path, ".", name);
  }

  absl::Status Object(const Json& json, Message* message, const std::string& path, int depth) {
    if (!json.is_object()) return Unexpected(path, json, "an object");
    const int depth_max = strictness_ == Strictness::kReply ? kReplyDepthMax : kDepthMax;
    if (depth > depth_max) return Refuse(path, "nested too deep");
    Members used;
    RETURN_IF_ERROR(ReadMembers(json, message, path, depth, &used));
    for (const auto& [name, value] : json.items()) {
      if (used.contains(name)) continue;
      if (strictness_ != Strictness::kReply) {
        return Refuse(Join(path, name),
                      absl::StrCat("there is no such member; its value is ", Shown(value)));
      }
      if (unknown_count_ != nullptr) ++*unknown_count_;
    }
    return absl::OkStatus();
  }

  // Reads the members that `message`, or the cases of its unions, have.
  absl::Status ReadMembers(const Json& json, Message* message, const std::string& path, int depth,
                           Members* used) {
    const Descriptor& type = *message->GetDescriptor();
    for (int i = 0; i < type.oneof_decl_count(); ++i) {
      const OneofDescriptor& oneof = *type.oneof_decl(i);
      if (!oneof.options().GetExtension(::qmp::tag).empty()) {
        RETURN_IF_ERROR(ReadUnion(json, oneof, message, path, depth, used));
      }
    }
    for (int i = 0; i < type.field_count(); ++i) {
      const FieldDescriptor& field = *type.field(i);
      const OneofDescriptor* const oneof = field.real_containing_oneof();
      if (oneof != nullptr && !oneof->options().GetExtension(::qmp::tag).empty()) continue;
      RETURN_IF_ERROR(ReadMember(json, field, message, path, depth, used));
    }
    return absl::OkStatus();
  }

  // Reads the member of `field`, under whichever of its names it has.
  absl::Status ReadMember(const Json& json, const FieldDescriptor& field, Message* message,
                          const std::string& path, int depth, Members* used) {
    std::string name = MemberName(field);
    auto found = json.find(name);
    if (field.name() != name) {
      const auto other = json.find(field.name());
      if (found != json.end() && other != json.end()) {
        return Refuse(Join(path, name), absl::StrCat("is given twice, also as ", field.name()));
      }
      if (other != json.end()) {
        found = other;
        name = field.name();
      }
    }
    // A name that an outer member has taken already is not this one's.
    if (found == json.end() || !used->insert(name).second) return absl::OkStatus();
    return Field(*found, field, message, Join(path, name), depth);
  }

  absl::Status ReadUnion(const Json& json, const OneofDescriptor& oneof, Message* message,
                         const std::string& path, int depth, Members* used) {
    const std::string& tag = oneof.options().GetExtension(::qmp::tag);
    const auto found = json.find(tag);
    if (found == json.end()) return absl::OkStatus();
    used->insert(tag);
    if (!found->is_string()) return Unexpected(Join(path, tag), *found, "a string");
    const std::string chosen = found->template get<std::string>();
    for (int i = 0; i < oneof.field_count(); ++i) {
      const FieldDescriptor& field = *oneof.field(i);
      if (chosen != MemberName(field) && chosen != field.name()) continue;
      Message* const body = message->GetReflection()->MutableMessage(message, &field);
      if (!oneof.options().GetExtension(::qmp::wrapped)) {
        return ReadMembers(json, body, path, depth, used);
      }
      used->insert("data");
      const auto data = json.find("data");
      if (data == json.end()) return Refuse(Join(path, "data"), "is missing");
      return Object(*data, body, Join(path, "data"), depth + 1);
    }
    if (strictness_ != Strictness::kReply) {
      return Refuse(Join(path, tag), absl::StrCat("does not accept value ", Shown(*found)));
    }
    if (unknown_count_ != nullptr) ++*unknown_count_;
    return absl::OkStatus();
  }

  absl::Status Field(const Json& json, const FieldDescriptor& field, Message* message,
                     const std::string& path, int depth) {
    if (!field.is_repeated()) return Value(json, field, message, path, depth);
    if (strictness_ == Strictness::kTyped && json.is_string()) {
      return Field(Split(json.template get<std::string>()), field, message, path, depth);
    }
    if (!json.is_array()) return Unexpected(path, json, "a list");
    for (size_t i = 0; i < json.size(); ++i) {
      RETURN_IF_ERROR(Value(json[i], field, message, absl::StrCat(path, "[", i, "]"), depth));
    }
    return absl::OkStatus();
  }

  // "a,b" is a list of two; the empty text is an empty list.
  static Json Split(const std::string& text) {
    Json list = Json::array();
    for (const absl::string_view part : absl::StrSplit(text, ',')) {
      if (!text.empty()) list.push_back(std::string(part));
    }
    return list;
  }

  // Sets the field, or adds an element to it.
  absl::Status Value(const Json& json, const FieldDescriptor& field, Message* message,
                     const std::string& path, int depth) {
    const Reflection& r = *message->GetReflection();
    const bool list = field.is_repeated();
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_MESSAGE:
        return MessageValue(
            json, list ? r.AddMessage(message, &field) : r.MutableMessage(message, &field), path,
            depth + 1);
      case FieldDescriptor::CPPTYPE_STRING: {
        if (!json.is_string()) return Unexpected(path, json, "a string");
        const std::string text = json.template get<std::string>();
        list ? r.AddString(message, &field, text) : r.SetString(message, &field, text);
        return absl::OkStatus();
      }
      case FieldDescriptor::CPPTYPE_BOOL: {
        ASSIGN_OR_RETURN(const bool value, Boolean(json, path));
        list ? r.AddBool(message, &field, value) : r.SetBool(message, &field, value);
        return absl::OkStatus();
      }
      case FieldDescriptor::CPPTYPE_ENUM:
        return Enum(json, field, message, path);
      case FieldDescriptor::CPPTYPE_INT32: {
        ASSIGN_OR_RETURN(const int32_t value, Integer<int32_t>(json, path));
        list ? r.AddInt32(message, &field, value) : r.SetInt32(message, &field, value);
        return absl::OkStatus();
      }
      case FieldDescriptor::CPPTYPE_INT64: {
        ASSIGN_OR_RETURN(const int64_t value, Integer<int64_t>(json, path));
        list ? r.AddInt64(message, &field, value) : r.SetInt64(message, &field, value);
        return absl::OkStatus();
      }
      case FieldDescriptor::CPPTYPE_UINT32: {
        ASSIGN_OR_RETURN(const uint32_t value, Integer<uint32_t>(json, path));
        list ? r.AddUInt32(message, &field, value) : r.SetUInt32(message, &field, value);
        return absl::OkStatus();
      }
      case FieldDescriptor::CPPTYPE_UINT64: {
        ASSIGN_OR_RETURN(const uint64_t value, Integer<uint64_t>(json, path));
        list ? r.AddUInt64(message, &field, value) : r.SetUInt64(message, &field, value);
        return absl::OkStatus();
      }
      case FieldDescriptor::CPPTYPE_DOUBLE: {
        // Integral values come without a point.
        if (!json.is_number()) return Unexpected(path, json, "a number");
        const double value = json.template get<double>();
        list ? r.AddDouble(message, &field, value) : r.SetDouble(message, &field, value);
        return absl::OkStatus();
      }
      default:
        return Refuse(path, "is of a type that QMP does not have");
    }
  }

  absl::StatusOr<bool> Boolean(const Json& json, const std::string& path) {
    if (json.is_boolean()) return json.template get<bool>();
    if (strictness_ == Strictness::kTyped && json.is_string()) {
      const std::string text = json.template get<std::string>();
      if (text == "true" || text == "on" || text == "yes") return true;
      if (text == "false" || text == "off" || text == "no") return false;
    }
    return Unexpected(path, json, "true or false");
  }

  template <typename T>
  absl::StatusOr<T> Integer(const Json& json, const std::string& path) {
    const auto out_of_range = [&] {
      return Unexpected(path, json,
                        absl::StrCat("an integer from ", std::numeric_limits<T>::min(), " to ",
                                     std::numeric_limits<T>::max()));
    };
    if (strictness_ == Strictness::kTyped && json.is_string()) {
      T value;
      if (absl::SimpleAtoi(json.template get<std::string>(), &value)) return value;
      return out_of_range();
    }
    if (json.is_number_unsigned()) {
      const uint64_t value = json.template get<uint64_t>();
      if (value > static_cast<uint64_t>(std::numeric_limits<T>::max())) return out_of_range();
      return static_cast<T>(value);
    }
    if (json.is_number_integer()) {
      // Negative, or nlohmann would have called it unsigned.
      const int64_t value = json.template get<int64_t>();
      if constexpr (std::is_unsigned_v<T>) {
        if (value < 0) return out_of_range();
      } else if (value < std::numeric_limits<T>::min() || value > std::numeric_limits<T>::max()) {
        return out_of_range();
      }
      return static_cast<T>(value);
    }
    return out_of_range();
  }

  absl::Status Enum(const Json& json, const FieldDescriptor& field, Message* message,
                    const std::string& path) {
    if (!json.is_string()) return Unexpected(path, json, "a string");
    const std::string text = json.template get<std::string>();
    const Reflection& r = *message->GetReflection();
    for (int i = 0; i < field.enum_type()->value_count(); ++i) {
      const EnumValueDescriptor& value = *field.enum_type()->value(i);
      // The value for "not said" cannot be said.
      const bool unspecified = value.number() == 0;
      if (unspecified || (text != ValueName(value) && text != value.name())) continue;
      field.is_repeated() ? r.AddEnum(message, &field, &value) : r.SetEnum(message, &field, &value);
      return absl::OkStatus();
    }
    if (strictness_ != Strictness::kReply) {
      return Refuse(path, absl::StrCat("does not accept value ", Shown(json)));
    }
    if (unknown_count_ != nullptr) ++*unknown_count_;
    if (field.is_repeated()) r.AddEnumValue(message, &field, 0);
    return absl::OkStatus();
  }

  absl::Status MessageValue(const Json& json, Message* message, const std::string& path,
                            int depth) {
    const Descriptor& type = *message->GetDescriptor();
    if (IsWellKnown(type)) return WellKnown(json, message, path);
    if (const OneofDescriptor* const oneof = AlternateOf(type)) {
      return Alternate(json, *oneof, message, path, depth);
    }
    return Object(json, message, path, depth);
  }

  absl::Status WellKnown(const Json& json, Message* message, const std::string& path) {
    const std::string wanted = WellKnownForm(*message->GetDescriptor());
    if (!json.is_string()) return Unexpected(path, json, wanted);
    const std::string text = json.template get<std::string>();
    if (WellKnownFromText(text, message)) return absl::OkStatus();
    // A bare number typed for a duration is its seconds.
    if (strictness_ == Strictness::kTyped && WellKnownFromText(text + "s", message)) {
      return absl::OkStatus();
    }
    return Unexpected(path, json, wanted);
  }

  // The case whose JSON type is that of `json`.
  absl::Status Alternate(const Json& json, const OneofDescriptor& oneof, Message* message,
                         const std::string& path, int depth) {
    const bool null = json.is_null() || (strictness_ == Strictness::kTyped && json.is_string() &&
                                         json.template get<std::string>() == "null");
    for (int i = 0; i < oneof.field_count(); ++i) {
      const FieldDescriptor& field = *oneof.field(i);
      if (field.options().GetExtension(::qmp::null)) {
        if (!null) continue;
        message->GetReflection()->MutableMessage(message, &field);
        return absl::OkStatus();
      }
      if (!null && Fits(json, field)) return Value(json, field, message, path, depth);
    }
    return Unexpected(path, json, "another type of value");
  }

  static bool Fits(const Json& json, const FieldDescriptor& field) {
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_MESSAGE:
        return json.is_object();
      case FieldDescriptor::CPPTYPE_STRING:
      case FieldDescriptor::CPPTYPE_ENUM:
        return json.is_string();
      case FieldDescriptor::CPPTYPE_BOOL:
        return json.is_boolean();
      default:
        return json.is_number_integer();
    }
  }

  const Strictness strictness_;
  uint64_t* const unknown_count_;
};

}  // namespace

absl::Status FromJson(const Json& json, Strictness strictness, Message* message,
                      uint64_t* unknown_count) {
  return Reader(strictness, unknown_count).Whole(json, message);
}

}  // namespace tidemark::qmp
