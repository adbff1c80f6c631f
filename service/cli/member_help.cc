// A message may hold itself, through any number of others: a node has children, which are nodes. So
// each type is told once; where it is met again, the page points back to it by name. The depth is
// bounded by the number of types.
#include "service/cli/member_help.h"

#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "adapters/qmp/transcoder.h"
#include "qmp/options.pb.h"

namespace tidemark::cli {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::OneofDescriptor;

constexpr int kStep = 4;

bool IsAlternate(const Descriptor& type) {
  return type.oneof_decl_count() == 1 &&
         type.oneof_decl(0)->options().GetExtension(::qmp::alternate);
}

// The command whose request `type` is; null if it is none.
const google::protobuf::MethodDescriptor* CommandOf(const Descriptor& type) {
  for (const auto* method : AllMethods()) {
    if (method->input_type()->full_name() == type.full_name()) return method;
  }
  return nullptr;
}

class Page {
 public:
  Page(const Manual& manual, MemberSide side) : manual_(manual), side_(side) {}

  // The members of `type`, each with `prefix` before its name.
  std::string Members(const Descriptor& type, const std::string& prefix, int indent) {
    told_.insert(type.full_name());
    std::string text;
    for (int i = 0; i < type.field_count(); ++i) {
      const FieldDescriptor& field = *type.field(i);
      const OneofDescriptor* const oneof = field.real_containing_oneof();
      const auto local = field.options().GetExtension(::qmp::local);
      if (oneof != nullptr && !oneof->options().GetExtension(::qmp::tag).empty()) {
        if (oneof->field(0) == &field) text += Union(*oneof, prefix, indent);
      } else if (local == ::qmp::LOCAL_INSTANCE) {
        // It is the flag --instance.
        continue;
      } else if (field.options().GetExtension(::qmp::whole) && !field.is_repeated()) {
        text += Members(*field.message_type(), prefix, indent);
      } else {
        text += Member(field, prefix, indent);
      }
    }
    return text;
  }

 private:
  std::string NameLine(const std::string& name, const std::string& type, const std::string& marks) {
    return absl::StrCat(name, side_ == MemberSide::kRequest ? "=" : ": ", type,
                        marks.empty() ? "" : absl::StrCat("   (", marks, ")"), "\n");
  }

  std::string Member(const FieldDescriptor& field, const std::string& prefix, int indent) {
    std::string marks;
    const auto mark = [&marks](const std::string& text) {
      absl::StrAppend(&marks, marks.empty() ? "" : ", ", text);
    };
    if (side_ == MemberSide::kRequest) {
      if (field.options().GetExtension(::qmp::required)) mark("required");
      const auto only = field.options().GetExtension(::qmp::only);
      if (only == ::qmp::ENGINE_QEMU) mark("QEMU only");
      if (only == ::qmp::ENGINE_NATIVE) mark("native engine only");
    }
    const std::string name = prefix + qmp::MemberName(field);
    std::string text = Indented(NameLine(name, TypeName(field), marks), indent);
    text += Indented(manual_.CommentOf(field), indent + kStep);
    return text + Inside(field, name, indent);
  }

  // What is to be told below a field: the values of its enum, the members of its message.
  std::string Inside(const FieldDescriptor& field, const std::string& name, int indent) {
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
      return Values(*field.enum_type(), indent + kStep);
    }
    if (field.cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) return "";
    const Descriptor& type = *field.message_type();
    if (type.file()->package() == "google.protobuf") return "";
    if (told_.contains(type.full_name())) {
      return Indented(absl::StrCat("As told above for ", type.name(), ".\n"), indent + kStep);
    }
    if (IsAlternate(type)) return Alternate(type, name, indent);
    return Members(type, MemberPrefix(field, name), indent + kStep);
  }

  // Members of a list's elements, and of what is printed, stand by themselves.
  std::string MemberPrefix(const FieldDescriptor& field, const std::string& name) const {
    return field.is_repeated() || side_ == MemberSide::kResponse ? "" : name + ".";
  }

  std::string Alternate(const Descriptor& type, const std::string& name, int indent) {
    told_.insert(type.full_name());
    std::string text;
    const OneofDescriptor& oneof = *type.oneof_decl(0);
    for (int i = 0; i < oneof.field_count(); ++i) {
      const FieldDescriptor& field = *oneof.field(i);
      text +=
          Indented(absl::StrCat(TypeName(field), ": ", manual_.CommentOf(field)), indent + kStep);
      if (!field.options().GetExtension(::qmp::null)) text += Inside(field, name, indent + kStep);
    }
    return text;
  }

  std::string Values(const EnumDescriptor& type, int indent) {
    if (!told_.insert(type.full_name()).second) {
      return Indented(absl::StrCat("The values of ", type.name(), " as told above.\n"), indent);
    }
    std::string text;
    for (int i = 0; i < type.value_count(); ++i) {
      const auto& value = *type.value(i);
      // Zero is what is meant when nothing is said.
      if (value.number() == 0) continue;
      text += Indented(qmp::ValueName(value) + "\n", indent);
      text += Indented(manual_.CommentOf(value), indent + kStep);
    }
    return text;
  }

  // A union told apart by a member: the tag, then for each of its values the members beside it.
  std::string Union(const OneofDescriptor& oneof, const std::string& prefix, int indent) {
    const std::string tag = prefix + oneof.options().GetExtension(::qmp::tag);
    const bool wrapped = oneof.options().GetExtension(::qmp::wrapped);
    std::string text =
        Indented(NameLine(tag, "NAME", side_ == MemberSide::kRequest ? "required" : ""), indent);
    text += Indented(manual_.CommentOf(oneof), indent + kStep);
    for (int i = 0; i < oneof.field_count(); ++i) {
      const FieldDescriptor& field = *oneof.field(i);
      const Descriptor& type = *field.message_type();
      text += Indented(NameLine(tag, qmp::MemberName(field), ""), indent + kStep);
      text += Indented(manual_.CommentOf(field), indent + 2 * kStep);
      const auto* const command = CommandOf(type);
      if (command != nullptr) {
        text += Indented(absl::StrCat("Members in ", prefix, "data: those of `tidemark help ",
                                      CommandName(*command), "`.\n"),
                         indent + 2 * kStep);
      } else if (told_.contains(type.full_name())) {
        text += Indented(absl::StrCat("Members as told above for ", type.name(), ".\n"),
                         indent + 2 * kStep);
      } else {
        text += Members(type, wrapped ? prefix + "data." : prefix, indent + 2 * kStep);
      }
    }
    return text;
  }

  std::string TypeName(const FieldDescriptor& field) const {
    const std::string one = ElementName(field);
    if (!field.is_repeated()) return one;
    return field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE ? absl::StrCat("[", one, ", ...]")
                                                                : absl::StrCat(one, ",...");
  }

  std::string ElementName(const FieldDescriptor& field) const {
    if (field.options().GetExtension(::qmp::null)) return "null";
    switch (field.cpp_type()) {
      case FieldDescriptor::CPPTYPE_STRING:
        return "STRING";
      case FieldDescriptor::CPPTYPE_BOOL:
        return "BOOLEAN";
      case FieldDescriptor::CPPTYPE_ENUM:
        return field.enum_type()->name();
      case FieldDescriptor::CPPTYPE_MESSAGE:
        return field.message_type()->name();
      default:
        return "INTEGER";
    }
  }

  const Manual& manual_;
  const MemberSide side_;
  // Full names of the messages and enums that are told, or being told.
  std::set<std::string> told_;
};

}  // namespace

std::string Indented(const std::string& text, int columns) {
  std::string indented;
  std::vector<std::string> lines = absl::StrSplit(text, '\n');
  if (!lines.empty() && lines.back().empty()) lines.pop_back();
  for (const std::string& line : lines) {
    if (!line.empty()) indented.append(columns, ' ');
    absl::StrAppend(&indented, line, "\n");
  }
  return indented;
}

std::string MemberHelp(const Manual& manual, const Descriptor& type, MemberSide side) {
  return Page(manual, side).Members(type, "", 2);
}

}  // namespace tidemark::cli
