// Walking down a message by its descriptors: what validation, and the check of a request against
// QEMU's schema, are made of. Any thread.
#ifndef ENGINE_BACKEND_MESSAGE_WALK_H_
#define ENGINE_BACKEND_MESSAGE_WALK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/backend/limits.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/message.h"

namespace tidemark::backend {

// "actions[1]" and "speed": "actions[1].speed".
inline std::string Join(absl::string_view path, absl::string_view name) {
  return path.empty() ? std::string(name) : absl::StrCat(path, ".", name);
}

// One value: of a singular field, or an element of a repeated one.
struct Value {
  const google::protobuf::Message& message;
  const google::protobuf::FieldDescriptor& field;
  int index;  // -1: singular.

  const google::protobuf::Reflection& reflection() const { return *message.GetReflection(); }
  int Enum() const {
    return index < 0 ? reflection().GetEnumValue(message, &field)
                     : reflection().GetRepeatedEnumValue(message, &field, index);
  }
  std::string String() const {
    return index < 0 ? reflection().GetString(message, &field)
                     : reflection().GetRepeatedString(message, &field, index);
  }
  const google::protobuf::Message& Message() const {
    return index < 0 ? reflection().GetMessage(message, &field)
                     : reflection().GetRepeatedMessage(message, &field, index);
  }
  // Of any integer type. A uint64 beyond int64 does not fit: see IsHuge.
  int64_t Integer() const {
    const google::protobuf::Reflection& r = reflection();
    switch (field.cpp_type()) {
      case google::protobuf::FieldDescriptor::CPPTYPE_INT32:
        return index < 0 ? r.GetInt32(message, &field) : r.GetRepeatedInt32(message, &field, index);
      case google::protobuf::FieldDescriptor::CPPTYPE_UINT32:
        return index < 0 ? r.GetUInt32(message, &field)
                         : r.GetRepeatedUInt32(message, &field, index);
      case google::protobuf::FieldDescriptor::CPPTYPE_INT64:
        return index < 0 ? r.GetInt64(message, &field) : r.GetRepeatedInt64(message, &field, index);
      default:
        return static_cast<int64_t>(Unsigned());
    }
  }
  uint64_t Unsigned() const {
    return index < 0 ? reflection().GetUInt64(message, &field)
                     : reflection().GetRepeatedUInt64(message, &field, index);
  }
  bool IsHuge() const {
    return field.cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_UINT64 &&
           Unsigned() > INT64_MAX;
  }
  std::string IntegerText() const {
    return IsHuge() ? absl::StrCat(Unsigned()) : absl::StrCat(Integer());
  }
};

inline bool IsInteger(const google::protobuf::FieldDescriptor& field) {
  switch (field.cpp_type()) {
    case google::protobuf::FieldDescriptor::CPPTYPE_INT32:
    case google::protobuf::FieldDescriptor::CPPTYPE_UINT32:
    case google::protobuf::FieldDescriptor::CPPTYPE_INT64:
    case google::protobuf::FieldDescriptor::CPPTYPE_UINT64:
      return true;
    default:
      return false;
  }
}

inline bool IsMessage(const google::protobuf::FieldDescriptor& field) {
  return field.cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_MESSAGE;
}

// Present; or, without presence, not zero and not empty.
inline bool IsSet(const google::protobuf::Message& message,
                  const google::protobuf::FieldDescriptor& field) {
  return field.is_repeated() ? message.GetReflection()->FieldSize(message, &field) > 0
                             : message.GetReflection()->HasField(message, &field);
}

// Calls `visit(value, path)` for every value set in `message` itself.
template <typename Visit>
absl::Status ForEachValue(const google::protobuf::Message& message, absl::string_view path,
                          Visit visit) {
  std::vector<const google::protobuf::FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);  // Those that are set, by number.
  for (const google::protobuf::FieldDescriptor* field : fields) {
    const std::string name = Join(path, field->name());
    if (!field->is_repeated()) {
      RETURN_IF_ERROR(visit(Value{message, *field, -1}, name));
      continue;
    }
    const int size = message.GetReflection()->FieldSize(message, field);
    for (int i = 0; i < size; ++i) {
      RETURN_IF_ERROR(visit(Value{message, *field, i}, absl::StrCat(name, "[", i, "]")));
    }
  }
  return absl::OkStatus();
}

// Walks down every message of a request, the outermost first.
class Walk {
 public:
  // `look(message, path, is_outermost)` says what is wrong with one message by itself.
  using Look =
      absl::FunctionRef<absl::Status(const google::protobuf::Message&, absl::string_view, bool)>;

  explicit Walk(Look look) : look_(look) {}

  absl::Status Down(const google::protobuf::Message& message, absl::string_view path = "",
                    int depth = 0) {
    if (depth > kRequestDepthMax) {
      return Error(Reason::kLimitReached,
                   absl::StrCat("Field '", path, "' is nested deeper than ", kRequestDepthMax),
                   {{"field", path}});
    }
    RETURN_IF_ERROR(look_(message, path, depth == 0));
    return ForEachValue(message, path, [&](const Value& value, const std::string& name) {
      if (++values_ > kRequestValuesMax) {
        return Error(Reason::kLimitReached,
                     absl::StrCat("The request holds more than ", kRequestValuesMax, " values"));
      }
      return IsMessage(value.field) ? Down(value.Message(), name, depth + 1) : absl::OkStatus();
    });
  }

 private:
  Look look_;
  size_t values_ = 0;
};

}  // namespace tidemark::backend

#endif  // ENGINE_BACKEND_MESSAGE_WALK_H_
