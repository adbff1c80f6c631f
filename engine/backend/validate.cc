#include "engine/backend/validate.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/types/span.h"
#include "engine/backend/limits.h"
#include "engine/backend/message_walk.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "google/protobuf/duration.pb.h"
#include "google/protobuf/unknown_field_set.h"

namespace tidemark::backend {
namespace {

namespace pb = ::google::protobuf;
using pb::FieldDescriptor;

// Values in error messages are cut here: they come from anybody.
constexpr size_t kShownBytesMax = 80;

absl::Status InvalidField(absl::string_view path, absl::string_view what) {
  return Error(Reason::kInvalidField, absl::StrCat("Field '", path, "' ", what), {{"field", path}});
}

std::string Shown(const std::string& value) {
  std::string shown = absl::CHexEscape(value.substr(0, kShownBytesMax));
  return absl::StrCat("'", shown, value.size() > kShownBytesMax ? "..." : "", "'");
}

// 1. What we do not know is refused: who sent it means something by it.
absl::Status CheckKnown(const pb::Message& message, absl::string_view path, bool is_outermost) {
  const pb::UnknownFieldSet& unknown = message.GetReflection()->GetUnknownFields(message);
  if (!unknown.empty()) {
    return Error(Reason::kFieldUnsupported,
                 absl::StrCat("Field number ", unknown.field(0).number(), " of ",
                              message.GetDescriptor()->name(), path.empty() ? "" : " in '", path,
                              path.empty() ? "" : "'", " is not known here"),
                 {{"field", path}});
  }
  return ForEachValue(message, path, [&](const Value& value, const std::string& name) {
    const FieldDescriptor& field = value.field;
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
      const int number = value.Enum();
      if (field.enum_type()->FindValueByNumber(number) == nullptr) {
        return InvalidField(name, absl::StrCat("has the value ", number, ", which is not one of ",
                                               field.enum_type()->name()));
      }
      if (field.is_repeated() && number == 0) {
        return InvalidField(name, "is unspecified; an element of a list must have a value");
      }
    }
    if (field.options().GetExtension(qmp::local) == qmp::LOCAL_INSTANCE && !is_outermost) {
      return InvalidField(name, absl::StrCat("is ", Shown(value.String()),
                                             "; only the outermost request names the instance"));
    }
    return absl::OkStatus();
  });
}

// 2. Required fields, and a case in each union.
absl::Status CheckRequired(const pb::Message& message, absl::string_view path, bool) {
  const pb::Descriptor& type = *message.GetDescriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    if (field.is_repeated() || !field.options().GetExtension(qmp::required)) continue;
    const bool is_set = IsSet(message, field);
    if (!is_set && field.real_containing_oneof() != nullptr) continue;
    const bool is_unspecified = field.cpp_type() == FieldDescriptor::CPPTYPE_ENUM && is_set &&
                                message.GetReflection()->GetEnumValue(message, &field) == 0;
    if (!is_set || is_unspecified) {
      return InvalidField(Join(path, field.name()), "is required, and is not set");
    }
  }
  for (int i = 0; i < type.real_oneof_decl_count(); ++i) {
    const pb::OneofDescriptor& oneof = *type.oneof_decl(i);
    if (!oneof.options().HasExtension(qmp::tag) && !oneof.options().GetExtension(qmp::alternate)) {
      continue;
    }
    if (message.GetReflection()->HasOneof(message, &oneof)) continue;
    std::vector<std::string> cases;
    for (int j = 0; j < oneof.field_count(); ++j) cases.push_back(oneof.field(j)->name());
    return InvalidField(Join(path, oneof.name()),
                        absl::StrCat("needs one of: ", absl::StrJoin(cases, ", ")));
  }
  return absl::OkStatus();
}

bool IsIdentifier(absl::string_view text) {
  return !text.empty() && absl::ascii_isalpha(text[0]) &&
         std::all_of(text.begin(), text.end(), [](unsigned char c) {
           return absl::ascii_isalnum(c) || c == '-' || c == '.' || c == '_';
         });
}

absl::Status CheckInteger(const Value& value, const qmp::Check& check, absl::string_view path) {
  const std::string is = absl::StrCat("is ", value.IntegerText());
  if (check.has_min() && !value.IsHuge() && value.Integer() < check.min()) {
    return InvalidField(path, absl::StrCat(is, ", but must be at least ", check.min()));
  }
  if (check.has_max() && (value.IsHuge() || value.Integer() > check.max())) {
    return InvalidField(path, absl::StrCat(is, ", but must be at most ", check.max()));
  }
  if (check.power_of_two()) {
    const uint64_t bits = static_cast<uint64_t>(value.Integer());
    if ((value.Integer() <= 0 && !value.IsHuge()) || (bits & (bits - 1)) != 0) {
      return InvalidField(path, absl::StrCat(is, ", but must be a power of two"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckString(const Value& value, const qmp::Check& check, absl::string_view path) {
  const std::string text = value.String();
  if (text.size() < check.min_length()) {
    return InvalidField(path, absl::StrCat("is ", Shown(text), ", but must have at least ",
                                           check.min_length(), " bytes"));
  }
  if (check.has_max_length() && text.size() > check.max_length()) {
    return InvalidField(path, absl::StrCat("is ", Shown(text), " of ", text.size(),
                                           " bytes, but must have at most ", check.max_length()));
  }
  if (check.identifier() && !IsIdentifier(text)) {
    return InvalidField(path, absl::StrCat("is ", Shown(text),
                                           ", but must be an identifier: a letter, then letters, "
                                           "digits, '-', '.' and '_'"));
  }
  return absl::OkStatus();
}

absl::Status CheckDuration(const Value& value, const qmp::Check& check, absl::string_view path) {
  pb::Duration duration;
  duration.CopyFrom(value.Message());
  const int64_t s = duration.seconds();
  const int32_t ns = duration.nanos();
  if (ns <= -1'000'000'000 || ns >= 1'000'000'000 || (s > 0 && ns < 0) || (s < 0 && ns > 0)) {
    return InvalidField(path, absl::StrCat("is not a duration: ", s, " s and ", ns, " ns"));
  }
  const double seconds = static_cast<double>(s) + 1e-9 * ns;
  if (check.has_min_seconds() && seconds < check.min_seconds()) {
    return InvalidField(
        path, absl::StrCat("is ", seconds, " s, but must be at least ", check.min_seconds(), " s"));
  }
  if (check.has_max_seconds() && seconds > check.max_seconds()) {
    return InvalidField(
        path, absl::StrCat("is ", seconds, " s, but must be at most ", check.max_seconds(), " s"));
  }
  return absl::OkStatus();
}

// 3. Ranges, lengths and forms.
absl::Status CheckForms(const pb::Message& message, absl::string_view path, bool) {
  const pb::Descriptor& type = *message.GetDescriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    if (!field.is_repeated()) continue;
    const qmp::Check& check = field.options().GetExtension(qmp::check);
    const uint32_t max_items = check.has_max_items() ? check.max_items() : kRequestItemsMax;
    const uint32_t size = message.GetReflection()->FieldSize(message, &field);
    if (size < check.min_items() || size > max_items) {
      return InvalidField(Join(path, field.name()),
                          absl::StrCat("has ", size, " elements, but must have at ",
                                       size < check.min_items() ? "least " : "most ",
                                       size < check.min_items() ? check.min_items() : max_items));
    }
  }
  return ForEachValue(message, path, [](const Value& value, const std::string& name) {
    const FieldDescriptor& field = value.field;
    if (!field.options().HasExtension(qmp::check)) return absl::OkStatus();
    const qmp::Check& check = field.options().GetExtension(qmp::check);
    if (IsInteger(field)) return CheckInteger(value, check, name);
    if (field.cpp_type() == FieldDescriptor::CPPTYPE_STRING) return CheckString(value, check, name);
    if (IsMessage(field) && field.message_type() == pb::Duration::descriptor()) {
      return CheckDuration(value, check, name);
    }
    return absl::OkStatus();
  });
}

// A value as refusals of combinations show it; empty for what has parts, and for text, which may be
// secret.
std::string Shown(const Value& value) {
  const FieldDescriptor& field = value.field;
  if (IsInteger(field)) return value.IntegerText();
  if (field.cpp_type() != FieldDescriptor::CPPTYPE_ENUM) return "";
  const auto* const chosen = field.enum_type()->FindValueByNumber(value.Enum());
  return chosen == nullptr ? absl::StrCat(value.Enum()) : chosen->name();
}

// A value that makes a condition true.
struct Held {
  std::string path;  // Empty: none does.
  std::string value;

  bool none() const { return path.empty(); }
  std::string text() const { return absl::StrCat("'", path, "'", value.empty() ? "" : " ", value); }
};

// The first value that makes the condition true.
Held Holds(const pb::Message& message, const qmp::Condition& condition,
           absl::Span<const std::string> names, absl::string_view path) {
  const FieldDescriptor* const field = message.GetDescriptor()->FindFieldByName(names[0]);
  Held held;
  if (field == nullptr || !IsSet(message, *field)) return held;
  const absl::Status stopped =
      ForEachValue(message, path, [&](const Value& value, const std::string& name) {
        if (&value.field != field) return absl::OkStatus();
        if (names.size() > 1) {
          if (IsMessage(*field)) held = Holds(value.Message(), condition, names.subspan(1), name);
        } else if (condition.values().empty()) {
          held = {name, Shown(value)};
        } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
          const auto* const chosen = field->enum_type()->FindValueByNumber(value.Enum());
          const bool listed =
              chosen != nullptr && std::find(condition.values().begin(), condition.values().end(),
                                             chosen->name()) != condition.values().end();
          if (listed) held = {name, Shown(value)};
        }
        return held.none() ? absl::OkStatus() : absl::CancelledError();
      });
  (void)stopped;  // Only ends the search.
  return held;
}

Held Holds(const pb::Message& message, const qmp::Condition& condition, absl::string_view path) {
  const std::vector<std::string> names = absl::StrSplit(condition.field(), '.');
  return Holds(message, condition, names, path);
}

bool IsSetAt(const pb::Message& message, const std::string& field) {
  qmp::Condition condition;
  condition.set_field(field);
  return !Holds(message, condition, "").none();
}

absl::Status InvalidCombination(absl::string_view path, absl::string_view what,
                                const qmp::Rule& rule, absl::string_view why) {
  return Error(Reason::kInvalidCombination,
               absl::StrCat("Field '", path, "' ", what, why, ": ", rule.because()),
               {{"field", path}});
}

absl::Status CheckRule(const pb::Message& message, absl::string_view path, const qmp::Rule& rule) {
  std::vector<std::string> reasons;
  for (const qmp::Condition& when : rule.when()) {
    const Held held = Holds(message, when, path);
    if (held.none()) return absl::OkStatus();
    reasons.push_back(held.text());
  }
  const std::string why =
      reasons.empty() ? "" : absl::StrCat(" with ", absl::StrJoin(reasons, " and "));
  for (const std::string& field : rule.require()) {
    if (!IsSetAt(message, field)) {
      return InvalidCombination(Join(path, field), "is required", rule, why);
    }
  }
  if (!rule.require_any().empty() &&
      std::none_of(rule.require_any().begin(), rule.require_any().end(),
                   [&message](const std::string& field) { return IsSetAt(message, field); })) {
    return InvalidCombination(
        Join(path, rule.require_any(0)),
        absl::StrCat("or another of (", absl::StrJoin(rule.require_any(), ", "), ") is required"),
        rule, why);
  }
  for (const qmp::Condition& forbid : rule.forbid()) {
    const Held held = Holds(message, forbid, path);
    if (!held.none()) {
      return InvalidCombination(
          held.path, absl::StrCat(held.value, held.value.empty() ? "" : " ", "is not allowed"),
          rule, why);
    }
  }
  return absl::OkStatus();
}

// 4. Fields that must, or must not, go together.
absl::Status CheckRules(const pb::Message& message, absl::string_view path, bool) {
  const pb::MessageOptions& options = message.GetDescriptor()->options();
  for (int i = 0; i < options.ExtensionSize(qmp::rule); ++i) {
    RETURN_IF_ERROR(CheckRule(message, path, options.GetExtension(qmp::rule, i)));
  }
  return absl::OkStatus();
}

absl::Status CheckUnprobedRules(const pb::Message& message, absl::string_view path, bool) {
  const pb::MessageOptions& options = message.GetDescriptor()->options();
  for (int i = 0; i < options.ExtensionSize(qmp::unprobed_rule); ++i) {
    RETURN_IF_ERROR(CheckRule(message, path, options.GetExtension(qmp::unprobed_rule, i)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Validate(const pb::Message& request) {
  for (const auto& look : {CheckKnown, CheckRequired, CheckForms, CheckRules}) {
    RETURN_IF_ERROR(Walk(look).Down(request));
  }
  return absl::OkStatus();
}

absl::Status CheckEngine(const pb::Message& request, EngineKind engine) {
  const qmp::Engine here = engine == EngineKind::kNative ? qmp::ENGINE_NATIVE : qmp::ENGINE_QEMU;
  const auto look = [here](const pb::Message& message, absl::string_view path, bool) {
    return ForEachValue(message, path, [here](const Value& value, const std::string& name) {
      const qmp::Engine only = value.field.options().GetExtension(qmp::only);
      if (only == qmp::ENGINE_UNSPECIFIED || only == here) return absl::OkStatus();
      return Error(Reason::kFieldUnsupported,
                   absl::StrCat("Field '", name, "' works only on ",
                                only == qmp::ENGINE_QEMU ? "a virtual machine of QEMU"
                                                         : "the native engine"),
                   {{"field", name}});
    });
  };
  return Walk(look).Down(request);
}

absl::Status CheckUnprobed(const pb::Message& request) {
  return Walk(CheckUnprobedRules).Down(request);
}

absl::Status CheckPaths(
    const pb::Message& request,
    absl::FunctionRef<absl::Status(absl::string_view file_name, qmp::Path use)> check) {
  const auto look = [check](const pb::Message& message, absl::string_view path, bool) {
    return ForEachValue(message, path, [check](const Value& value, const std::string& name) {
      const qmp::Path use = value.field.options().GetExtension(qmp::path);
      if (use == qmp::PATH_UNSPECIFIED) return absl::OkStatus();
      return Annotate(check(value.String(), use), absl::StrCat("Field '", name, "'"));
    });
  };
  return Walk(look).Down(request);
}

std::vector<FileName> FileNamesOf(const pb::Message& request) {
  std::vector<FileName> names;
  const auto look = [&names](const pb::Message& message, absl::string_view path, bool) {
    return ForEachValue(message, path, [&names](const Value& value, const std::string& field) {
      const qmp::Path use = value.field.options().GetExtension(qmp::path);
      if (use == qmp::PATH_UNSPECIFIED) return absl::OkStatus();
      // What is only recorded counts from the folder of its image, which the engine knows. The
      // native one checks the name when it opens the file; QEMU opens what an image names unasked.
      std::string name(value.String());
      if (use == qmp::PATH_RECORDED && !absl::StartsWith(name, "/")) return absl::OkStatus();
      names.push_back({field, std::move(name)});
      return absl::OkStatus();
    });
  };
  Walk(look).Down(request).IgnoreError();
  return names;
}

absl::Status CheckPaths(const pb::Message& request, const PathPolicy& policy) {
  if (policy.allows_everything()) return absl::OkStatus();
  for (const FileName& file : FileNamesOf(request)) {
    RETURN_IF_ERROR(
        Annotate(policy.CheckPath(file.name), absl::StrCat("Field '", file.field, "'")));
  }
  return absl::OkStatus();
}

}  // namespace tidemark::backend
