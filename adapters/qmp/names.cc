#include "absl/strings/ascii.h"
#include "adapters/qmp/transcoder.h"
#include "qmp/options.pb.h"

namespace tidemark::qmp {
namespace {

using google::protobuf::FieldDescriptor;

std::string Kebab(std::string name) {
  for (char& c : name) c = c == '_' ? '-' : absl::ascii_tolower(c);
  return name;
}

// "MIRROR_SYNC_MODE_" for the enum MirrorSyncMode: what its first value has before UNSPECIFIED.
size_t PrefixLength(const google::protobuf::EnumDescriptor& type) {
  const std::string& first = type.value(0)->name();
  const size_t at = first.rfind("UNSPECIFIED");
  return at == std::string::npos ? 0 : at;
}

}  // namespace

std::string MemberName(const FieldDescriptor& field) {
  const std::string& given = field.options().GetExtension(::qmp::name);
  return given.empty() ? Kebab(field.name()) : given;
}

std::string ValueName(const google::protobuf::EnumValueDescriptor& value) {
  const std::string& given = value.options().GetExtension(::qmp::value);
  if (!given.empty()) return given;
  // A number that this reader does not know has a made-up name without the prefix.
  const size_t prefix = PrefixLength(*value.type());
  const bool known = value.type()->FindValueByNumber(value.number()) != nullptr;
  return Kebab(known ? value.name().substr(prefix) : value.name());
}

const google::protobuf::OneofDescriptor* AlternateOf(const google::protobuf::Descriptor& message) {
  if (message.oneof_decl_count() != 1) return nullptr;
  const auto* const oneof = message.oneof_decl(0);
  return oneof->options().GetExtension(::qmp::alternate) ? oneof : nullptr;
}

const FieldDescriptor* WholeField(const google::protobuf::Descriptor& message) {
  for (int i = 0; i < message.field_count(); ++i) {
    if (message.field(i)->options().GetExtension(::qmp::whole)) return message.field(i);
  }
  return nullptr;
}

}  // namespace tidemark::qmp
