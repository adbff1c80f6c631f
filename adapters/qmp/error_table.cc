#include "adapters/qmp/error_table.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/types/optional.h"
#include "adapters/qmp/error_texts.h"
#include "adapters/qmp/limits.h"
#include "engine/base/error_metadata.h"
#include "google/protobuf/descriptor.h"
#include "qmp/options.pb.h"

namespace tidemark::qmp {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// What stood in the holes of a pattern.
using Holes = std::vector<std::pair<std::string, std::string>>;

// Matches the whole of `text`; a hole takes as little as it can.
bool MatchesWhole(absl::string_view pattern, absl::string_view text, Holes* holes) {
  holes->clear();
  while (true) {
    const size_t hole = pattern.find('<');
    const absl::string_view fixed = pattern.substr(0, hole);
    if (!absl::StartsWith(text, fixed)) return false;
    text.remove_prefix(fixed.size());
    if (hole == absl::string_view::npos) return text.empty();
    pattern.remove_prefix(hole + 1);
    const size_t close = pattern.find('>');
    const absl::string_view key = pattern.substr(0, close);
    pattern.remove_prefix(close + 1);
    const absl::string_view next = pattern.substr(0, pattern.find('<'));
    size_t taken = text.find(next);
    if (pattern.empty()) {
      taken = text.size();
    } else if (next.size() == pattern.size()) {
      // The last hole ends where the text's tail begins.
      if (!absl::EndsWith(text, next)) return false;
      taken = text.size() - next.size();
    }
    if (taken == absl::string_view::npos) return false;
    if (!key.empty()) holes->emplace_back(key, text.substr(0, taken));
    text.remove_prefix(taken);
  }
}

// Matches the text, or what is left of it behind one of its "<something>: ".
bool Matches(absl::string_view pattern, absl::string_view text, Holes* holes) {
  while (!MatchesWhole(pattern, text, holes)) {
    const size_t colon = text.find(": ");
    if (colon == absl::string_view::npos) return false;
    text.remove_prefix(colon + 2);
  }
  return true;
}

absl::optional<Reason> ReasonOfErrno(absl::string_view text) {
  for (const ErrnoText& row : ErrnoTexts()) {
    if (text == row.text || absl::EndsWith(text, absl::StrCat(": ", row.text))) return row.reason;
  }
  return absl::nullopt;
}

// What the table knows of a text.
struct Meaning {
  Reason reason = Reason::kQemuRefused;
  Holes holes;
};

Meaning MeaningOf(absl::string_view text) {
  Meaning meaning;
  // Matching takes quadratic time.
  const absl::string_view whole = text;
  text = text.substr(0, kErrorMatchBytesMax);
  for (const ErrorText& row : ErrorTexts()) {
    if (!Matches(row.pattern, text, &meaning.holes)) continue;
    meaning.reason =
        row.reason.has_value() ? *row.reason : ReasonOfErrno(whole).value_or(Reason::kIoError);
    if (row.field[0] != '\0') meaning.holes.emplace_back("field", row.field);
    // QEMU spells its members with dashes, our protos with underscores.
    for (auto& [key, value] : meaning.holes) {
      if (key == "field") absl::StrReplaceAll({{"-", "_"}}, &value);
    }
    return meaning;
  }
  meaning.holes.clear();
  meaning.reason = ReasonOfErrno(whole).value_or(Reason::kQemuRefused);
  return meaning;
}

// `said`: QEMU has said it. No name of QEMU's holds a NUL, which metadata cannot.
absl::Status StatusOf(absl::string_view error_class, absl::string_view text, bool said,
                      absl::string_view message, const Meaning& meaning) {
  const auto clean = [](absl::string_view value, size_t bytes_max) {
    return absl::StrReplaceAll(value.substr(0, bytes_max), {{absl::string_view("\0", 1), "?"}});
  };
  absl::Status status = Error(meaning.reason, message);
  if (!error_class.empty()) {
    status = WithMetadata(status, "qmp_class", clean(error_class, kErrorNameBytesMax));
  }
  if (said) status = WithMetadata(status, "qmp_desc", clean(text, kErrorTextBytesMax));
  for (const auto& [key, value] : meaning.holes) {
    status = WithMetadata(status, key, clean(value, kErrorNameBytesMax));
  }
  return status;
}

// --- The request ---

// Under which key of the metadata the native engine gives a request's name; empty: none.
absl::string_view KeyOf(const FieldDescriptor& field, absl::string_view command) {
  const std::string& name = field.name();
  const bool is_job_verb =
      absl::StartsWith(command, "job-") || absl::StartsWith(command, "block-job-");
  const bool is_bitmap_command = absl::StartsWith(command, "block-dirty-bitmap-");
  if (name == "job_id" || (is_job_verb && (name == "id" || name == "device"))) return "job";
  if (name == "node_name" || name == "node" || name == "device") return "node";
  if (name == "bitmap" || (is_bitmap_command && (name == "name" || name == "target")))
    return "bitmap";
  if (name == "id" && absl::StartsWith(command, "block-export-")) return "export";
  return "";
}

// Whether a field names an object or a file, and so belongs into the message. Values of other
// fields may be long, or secret.
bool IsName(const FieldDescriptor& field) {
  static constexpr absl::string_view kNames[] = {"base",
                                                 "base_node",
                                                 "bitmap",
                                                 "bottom",
                                                 "child",
                                                 "device",
                                                 "driver",
                                                 "id",
                                                 "job_id",
                                                 "name",
                                                 "node",
                                                 "node_name",
                                                 "overlay",
                                                 "parent",
                                                 "replaces",
                                                 "snapshot_node_name",
                                                 "target",
                                                 "top",
                                                 "top_node",
                                                 "image_node_name",
                                                 "filter_node_name",
                                                 "reference",
                                                 "format",
                                                 "iothread"};
  if (field.cpp_type() != FieldDescriptor::CPPTYPE_STRING || field.is_repeated()) return false;
  return field.options().GetExtension(::qmp::path) != ::qmp::PATH_UNSPECIFIED ||
         std::find(std::begin(kNames), std::end(kNames), field.name()) != std::end(kNames);
}

// The names that a request holds, with their fields, down to a bounded number.
void CollectNames(const Message& message, absl::string_view command,
                  std::vector<std::string>* names, Holes* keys, int depth = 0) {
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    if (names->size() >= kErrorNamesMax || depth > kErrorNamesDepthMax) return;
    const Reflection& reflection = *message.GetReflection();
    if (IsName(*field)) {
      const std::string value = reflection.GetString(message, field).substr(0, kErrorNameBytesMax);
      names->push_back(absl::StrCat(field->name(), " '", value, "'"));
      const absl::string_view key = depth == 0 ? KeyOf(*field, command) : "";
      if (!key.empty()) keys->emplace_back(key, value);
    } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      const int count = field->is_repeated() ? reflection.FieldSize(message, field) : 1;
      for (int i = 0; i < count && names->size() < kErrorNamesMax; ++i) {
        CollectNames(field->is_repeated() ? reflection.GetRepeatedMessage(message, field, i)
                                          : reflection.GetMessage(message, field),
                     command, names, keys, depth + 1);
      }
    }
  }
}

// The number or word that a field of the request holds, by its path; empty if it is neither.
std::string ValueAt(const Message& request, absl::string_view path) {
  const Message* message = &request;
  const std::vector<std::string> parts = absl::StrSplit(path, '.');
  for (size_t i = 0; i < parts.size(); ++i) {
    const FieldDescriptor* field = message->GetDescriptor()->FindFieldByName(parts[i]);
    if (field == nullptr || field->is_repeated()) return "";
    const Reflection& reflection = *message->GetReflection();
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      message = &reflection.GetMessage(*message, field);
      continue;
    }
    switch (field->cpp_type()) {
      case FieldDescriptor::CPPTYPE_INT32:
        return absl::StrCat(reflection.GetInt32(*message, field));
      case FieldDescriptor::CPPTYPE_UINT32:
        return absl::StrCat(reflection.GetUInt32(*message, field));
      case FieldDescriptor::CPPTYPE_INT64:
        return absl::StrCat(reflection.GetInt64(*message, field));
      case FieldDescriptor::CPPTYPE_UINT64:
        return absl::StrCat(reflection.GetUInt64(*message, field));
      case FieldDescriptor::CPPTYPE_ENUM:
        return reflection.GetEnum(*message, field)->name();
      default:
        return "";
    }
  }
  return "";
}

bool Has(const Holes& holes, absl::string_view key) {
  return std::any_of(holes.begin(), holes.end(),
                     [key](const auto& hole) { return hole.first == key; });
}

}  // namespace

namespace {

// `who`: how the message begins.
absl::Status OfRequest(absl::string_view who, absl::string_view error_class, absl::string_view text,
                       bool said, absl::string_view command, const Message& request) {
  Meaning meaning = MeaningOf(text);
  std::vector<std::string> names;
  Holes keys;
  CollectNames(request, command, &names, &keys);
  for (const auto& [key, value] : meaning.holes) {
    if (key != "field") continue;
    const std::string fault = ValueAt(request, value);
    names.push_back(absl::StrCat("field '", value, "'", fault.empty() ? "" : " is ", fault));
  }
  for (auto& [key, value] : keys) {
    if (!Has(meaning.holes, key)) meaning.holes.emplace_back(key, std::move(value));
  }
  return StatusOf(error_class, text, said,
                  absl::StrCat(who, " ", command, names.empty() ? "" : " (",
                               absl::StrJoin(names, ", "), names.empty() ? "" : ")", ": ", text),
                  meaning);
}

}  // namespace

absl::Status FromQemu(absl::string_view error_class, absl::string_view text) {
  return StatusOf(error_class, text, /*said=*/true, absl::StrCat("QEMU refused: ", text),
                  MeaningOf(text));
}

absl::Status FromQemu(absl::string_view error_class, absl::string_view text,
                      absl::string_view command, const Message& request) {
  return OfRequest("QEMU refused", error_class, text, /*said=*/true, command, request);
}

absl::Status AsQemuWould(absl::string_view error_class, absl::string_view text,
                         absl::string_view command, const Message& request) {
  return OfRequest("Refused without QEMU, which would say the same:", error_class, text,
                   /*said=*/false, command, request);
}

absl::Status OfInactive(const absl::Status& refusal) {
  absl::Status status =
      Error(Reason::kMachineState,
            absl::StrCat(refusal.message(),
                         "; the virtual machine is being or has been migrated, and "
                         "its images are inactive"));
  const absl::optional<ErrorDetails> details = DetailsOf(refusal);
  if (!details.has_value()) return status;
  for (const auto& [key, value] : details->metadata) status = WithMetadata(status, key, value);
  return status;
}

Reason ReasonOfText(absl::string_view text) { return MeaningOf(text).reason; }

}  // namespace tidemark::qmp
