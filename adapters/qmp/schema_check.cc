// A message and a schema type are walked down together. Where a message is a flat union, the fields
// of the chosen case are looked up in the variant; where it is an alternate, the type that the case
// has in JSON must be among the alternatives.
#include "adapters/qmp/schema_check.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "adapters/qmp/transcoder.h"
#include "engine/backend/message_walk.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "qmp/options.pb.h"

namespace tidemark::qmp {
namespace {

using backend::Join;
using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::OneofDescriptor;

bool IsLocal(const FieldDescriptor& field) {
  return field.options().GetExtension(::qmp::local) != ::qmp::LOCAL_UNSPECIFIED ||
         field.options().GetExtension(::qmp::only) == ::qmp::ENGINE_NATIVE;
}

// The oneof with a tag that the field is a case of; null if it is none.
const OneofDescriptor* TaggedUnionOf(const FieldDescriptor& field) {
  const OneofDescriptor* const oneof = field.real_containing_oneof();
  return oneof != nullptr && !oneof->options().GetExtension(::qmp::tag).empty() ? oneof : nullptr;
}

const SchemaType* MemberType(const SchemaType& object, const std::string& name) {
  const auto found = object.members.find(name);
  return found == object.members.end() ? nullptr : found->second.type;
}

// How the case of an alternate looks in JSON.
bool Fits(const FieldDescriptor& field, const SchemaType& type) {
  using Meta = SchemaType::Meta;
  if (field.options().GetExtension(::qmp::null)) return type.json_type == "null";
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return field.is_repeated() ? type.meta == Meta::kArray : type.meta == Meta::kObject;
    case FieldDescriptor::CPPTYPE_ENUM:
      return type.meta == Meta::kEnum;
    case FieldDescriptor::CPPTYPE_STRING:
      return type.json_type == "string" || type.meta == Meta::kEnum;
    case FieldDescriptor::CPPTYPE_BOOL:
      return type.json_type == "boolean";
    default:
      return type.json_type == "int" || type.json_type == "number";
  }
}

const SchemaType* AlternativeFor(const FieldDescriptor& field, const SchemaType& type) {
  // A QEMU from before the alternate has one of its types alone.
  if (type.meta != SchemaType::Meta::kAlternate) return Fits(field, type) ? &type : nullptr;
  for (const SchemaType* const alternative : type.alternatives) {
    if (Fits(field, *alternative)) return alternative;
  }
  return nullptr;
}

// The type that the fields of `field`, a case of the tagged union `oneof`, are looked up in; null
// if the union has no such case.
const SchemaType* VariantFor(const OneofDescriptor& oneof, const FieldDescriptor& field,
                             const SchemaType& type) {
  static const SchemaType empty = [] {
    SchemaType object;
    object.meta = SchemaType::Meta::kObject;
    return object;
  }();
  const std::string value = MemberName(field);
  const SchemaType* const tag = MemberType(type, oneof.options().GetExtension(::qmp::tag));
  if (tag == nullptr || !tag->values.contains(value)) return nullptr;
  const auto found = type.variants.find(value);
  const SchemaType* const variant = found == type.variants.end() ? &empty : found->second;
  if (!oneof.options().GetExtension(::qmp::wrapped)) return variant;
  const SchemaType* const data = MemberType(*variant, "data");
  return data == nullptr ? &empty : data;
}

class Checker {
 public:
  explicit Checker(absl::string_view version) : version_(version) {}

  absl::Status Object(const Message& message, const SchemaType& type, const std::string& path) {
    return backend::ForEachValue(
        message, path, [&](const backend::Value& value, const std::string& name) {
          if (IsLocal(value.field)) return absl::OkStatus();
          if (const OneofDescriptor* const oneof = TaggedUnionOf(value.field)) {
            const SchemaType* const variant = VariantFor(*oneof, value.field, type);
            return variant == nullptr ? Refuse(name) : Object(value.Message(), *variant, name);
          }
          const SchemaType* const member = MemberType(type, MemberName(value.field));
          if (member == nullptr) return Refuse(name);
          return Value(value, *member, name);
        });
  }

  absl::Status Value(const backend::Value& value, const SchemaType& member,
                     const std::string& path) {
    const SchemaType& type =
        value.index >= 0 && member.element != nullptr ? *member.element : member;
    if (value.field.cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
      const auto* const chosen = value.field.enum_type()->FindValueByNumber(value.Enum());
      if (chosen != nullptr && type.meta == SchemaType::Meta::kEnum &&
          !type.values.contains(ValueName(*chosen))) {
        return Refuse(path, absl::StrCat("has the value '", ValueName(*chosen), "', which"));
      }
      return absl::OkStatus();
    }
    if (!backend::IsMessage(value.field)) return absl::OkStatus();
    const Message& message = value.Message();
    if (!AlternateOf(*message.GetDescriptor())) return Object(message, type, path);
    return backend::ForEachValue(
        message, path, [&](const backend::Value& inner, const std::string& name) {
          const SchemaType* const alternative = AlternativeFor(inner.field, type);
          if (alternative == nullptr) return Refuse(name);
          if (inner.field.options().GetExtension(::qmp::null)) return absl::OkStatus();
          return Value(inner, *alternative, name);
        });
  }

 private:
  absl::Status Refuse(const std::string& path, absl::string_view what = "") const {
    return Error(Reason::kFieldUnsupported,
                 absl::StrCat("Field '", path, "' ", what, what.empty() ? "" : " ",
                              "is not known to QEMU ", version_),
                 {{"field", path}});
  }

  const absl::string_view version_;
};

// The same walk over types instead of values.
class Finder {
 public:
  explicit Finder(std::vector<std::string>* paths) : paths_(paths) {}

  void Object(const Descriptor& message, const SchemaType& type, const std::string& path) {
    const Visit visit{&message, &type};
    if (std::find(entered_.begin(), entered_.end(), visit) != entered_.end()) return;
    // Nodes contain nodes: their fields are told where they first occur.
    if (std::any_of(entered_.begin(), entered_.end(),
                    [&](const Visit& outer) { return outer.first == &message; })) {
      return;
    }
    entered_.push_back(visit);
    for (int i = 0; i < message.field_count(); ++i) {
      const FieldDescriptor& field = *message.field(i);
      if (IsLocal(field) && field.options().GetExtension(::qmp::only) != ::qmp::ENGINE_NATIVE) {
        continue;
      }
      Field(field, type, Join(path, field.name()));
    }
    entered_.pop_back();
  }

 private:
  using Visit = std::pair<const Descriptor*, const SchemaType*>;

  void Field(const FieldDescriptor& field, const SchemaType& type, const std::string& path) {
    if (const OneofDescriptor* const oneof = TaggedUnionOf(field)) {
      const SchemaType* const variant = VariantFor(*oneof, field, type);
      if (variant == nullptr) return paths_->push_back(path);
      return Object(*field.message_type(), *variant, path);
    }
    const SchemaType* member = MemberType(type, MemberName(field));
    if (member == nullptr) return paths_->push_back(path);
    if (field.message_type() == nullptr) return;
    if (field.is_repeated() && member->element != nullptr) member = member->element;
    const Descriptor& inner = *field.message_type();
    if (!AlternateOf(inner)) return Object(inner, *member, path);
    for (int i = 0; i < inner.field_count(); ++i) {
      const FieldDescriptor& choice = *inner.field(i);
      const SchemaType* const alternative = AlternativeFor(choice, *member);
      if (alternative == nullptr) {
        paths_->push_back(Join(path, choice.name()));
      } else if (choice.message_type() != nullptr && !choice.options().GetExtension(::qmp::null)) {
        Object(*choice.message_type(), *alternative, Join(path, choice.name()));
      }
    }
  }

  std::vector<std::string>* const paths_;
  std::vector<Visit> entered_;
};

}  // namespace

absl::Status CheckSupported(const Schema& schema, absl::string_view version,
                            const backend::Command& command, const Message& request) {
  const SchemaCommand* const known = schema.FindCommand(command.qmp_name);
  if (known == nullptr) {
    return Error(Reason::kCommandUnsupported,
                 absl::StrCat("QEMU ", version, " has no command '", command.qmp_name, "'"),
                 {{"command", command.qmp_name}});
  }
  Checker checker(version);
  const FieldDescriptor* const whole = WholeField(*request.GetDescriptor());
  if (whole == nullptr) return checker.Object(request, *known->arguments, "");
  if (!backend::IsSet(request, *whole)) return absl::OkStatus();
  return checker.Value({request, *whole, -1}, *known->arguments, whole->name());
}

std::vector<std::string> UnsupportedFields(const Schema& schema, const backend::Command& command) {
  std::vector<std::string> paths;
  const SchemaCommand* const known = schema.FindCommand(command.qmp_name);
  if (known == nullptr) return paths;
  const Descriptor& request = *command.request->GetDescriptor();
  const FieldDescriptor* const whole = WholeField(request);
  Finder finder(&paths);
  if (whole == nullptr) {
    finder.Object(request, *known->arguments, "");
  } else {
    finder.Object(*whole->message_type(), *known->arguments, whole->name());
  }
  return paths;
}

}  // namespace tidemark::qmp
