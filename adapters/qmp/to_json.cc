#include "adapters/qmp/transcoder.h"
#include "adapters/qmp/well_known.h"
#include "qmp/options.pb.h"

namespace tidemark::qmp {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::OneofDescriptor;
using google::protobuf::Reflection;

// Writes one message; the members of unions told apart by a tag lie flat among the others.
class Writer {
 public:
  explicit Writer(const JsonForm& form) : form_(form) {}

  Json Whole(const Message& message) const {
    const FieldDescriptor* const whole = WholeField(*message.GetDescriptor());
    if (whole == nullptr || form_.with_local) return Object(message);
    return Field(message, *whole);
  }

 private:
  Json Object(const Message& message) const {
    Json object = Json::object();
    AddMembers(message, &object);
    return object;
  }

  void AddMembers(const Message& message, Json* object) const {
    const Descriptor& type = *message.GetDescriptor();
    for (int i = 0; i < type.field_count(); ++i) {
      const FieldDescriptor& field = *type.field(i);
      const OneofDescriptor* const oneof = field.real_containing_oneof();
      if (oneof != nullptr) {
        // Each union once, where its first case stands.
        if (oneof->field(0) == &field) AddUnion(message, *oneof, object);
        continue;
      }
      if (!form_.with_local &&
          field.options().GetExtension(::qmp::local) != ::qmp::LOCAL_UNSPECIFIED) {
        continue;
      }
      if (!IsPresent(message, field)) continue;
      (*object)[MemberName(field)] = Field(message, field);
    }
  }

  bool IsPresent(const Message& message, const FieldDescriptor& field) const {
    const Reflection& reflection = *message.GetReflection();
    if (field.is_repeated()) {
      return reflection.FieldSize(message, &field) > 0 ||
             field.options().GetExtension(::qmp::required);
    }
    if (reflection.HasField(message, &field)) return true;
    return form_.with_zeros && !field.has_presence() &&
           field.cpp_type() != FieldDescriptor::CPPTYPE_STRING &&
           field.cpp_type() != FieldDescriptor::CPPTYPE_ENUM;
  }

  void AddUnion(const Message& message, const OneofDescriptor& oneof, Json* object) const {
    const FieldDescriptor* const chosen =
        message.GetReflection()->GetOneofFieldDescriptor(message, &oneof);
    if (chosen == nullptr) return;
    const std::string& tag = oneof.options().GetExtension(::qmp::tag);
    if (tag.empty()) {
      // A union of ours: the case is a member of its own.
      (*object)[MemberName(*chosen)] = Field(message, *chosen);
      return;
    }
    (*object)[tag] = MemberName(*chosen);
    const Message& body = message.GetReflection()->GetMessage(message, chosen);
    if (oneof.options().GetExtension(::qmp::wrapped)) {
      (*object)["data"] = Object(body);
    } else {
      AddMembers(body, object);
    }
  }

  Json Field(const Message& message, const FieldDescriptor& field) const {
    if (!field.is_repeated()) return Value(message, field, -1);
    Json list = Json::array();
    const int size = message.GetReflection()->FieldSize(message, &field);
    for (int i = 0; i < size; ++i) list.push_back(Value(message, field, i));
    return list;
  }

  // The value of `field`, or of its element `index`.
  Json Value(const Message& message, const FieldDescriptor& field, int index) const {
    const Reflection& r = *message.GetReflection();
    const bool single = index < 0;
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_INT32:
        return single ? r.GetInt32(message, &field) : r.GetRepeatedInt32(message, &field, index);
      case FieldDescriptor::CPPTYPE_INT64:
        return single ? r.GetInt64(message, &field) : r.GetRepeatedInt64(message, &field, index);
      case FieldDescriptor::CPPTYPE_UINT32:
        return single ? r.GetUInt32(message, &field) : r.GetRepeatedUInt32(message, &field, index);
      case FieldDescriptor::CPPTYPE_UINT64:
        return single ? r.GetUInt64(message, &field) : r.GetRepeatedUInt64(message, &field, index);
      case FieldDescriptor::CPPTYPE_DOUBLE:
        return single ? r.GetDouble(message, &field) : r.GetRepeatedDouble(message, &field, index);
      case FieldDescriptor::CPPTYPE_FLOAT:
        return single ? r.GetFloat(message, &field) : r.GetRepeatedFloat(message, &field, index);
      case FieldDescriptor::CPPTYPE_BOOL:
        return single ? r.GetBool(message, &field) : r.GetRepeatedBool(message, &field, index);
      case FieldDescriptor::CPPTYPE_STRING:
        return single ? r.GetString(message, &field) : r.GetRepeatedString(message, &field, index);
      case FieldDescriptor::CPPTYPE_ENUM:
        return ValueName(
            *(single ? r.GetEnum(message, &field) : r.GetRepeatedEnum(message, &field, index)));
      case FieldDescriptor::CPPTYPE_MESSAGE:
        return MessageValue(single ? r.GetMessage(message, &field)
                                   : r.GetRepeatedMessage(message, &field, index));
    }
    return nullptr;
  }

  Json MessageValue(const Message& message) const {
    const Descriptor& type = *message.GetDescriptor();
    if (IsWellKnown(type)) return WellKnownToText(message);
    if (const auto* const oneof = AlternateOf(type)) {
      const FieldDescriptor* const chosen =
          message.GetReflection()->GetOneofFieldDescriptor(message, oneof);
      if (chosen == nullptr || chosen->options().GetExtension(::qmp::null)) return nullptr;
      return Field(message, *chosen);
    }
    return Object(message);
  }

  const JsonForm form_;
};

}  // namespace

Json ToJson(const Message& message, const JsonForm& form) { return Writer(form).Whole(message); }

}  // namespace tidemark::qmp
