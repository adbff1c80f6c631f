#include "service/cli/output.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "qmp/options.pb.h"

namespace tidemark::cli {
namespace {

using qmp::Json;

std::string Dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

bool IsScalar(const Json& json) { return !json.is_object() && !json.is_array(); }

// Words are shown bare; what is empty or could be taken for something else, quoted.
std::string ScalarText(const Json& json) {
  if (!json.is_string()) return Dump(json);
  const std::string text = json.get<std::string>();
  return text.empty() ? "\"\"" : Printable(text);
}

// The protos name sizes so: unit last, or "...size".
bool IsBytes(absl::string_view name) {
  return absl::StrContains(name, "bytes") || name == "size" || absl::EndsWith(name, "-size");
}

std::string MemberText(absl::string_view name, const Json& value) {
  std::string text = ScalarText(value);
  if (IsBytes(name) && value.is_number_integer() && value >= 1024) {
    absl::StrAppend(&text, " (", BytesText(value.get<uint64_t>()), ")");
  }
  return text;
}

bool AreScalars(const Json& list) { return std::all_of(list.begin(), list.end(), IsScalar); }

std::string ListLine(const Json& list) {
  std::string line;
  for (const Json& element : list) {
    absl::StrAppend(&line, line.empty() ? "" : ", ", ScalarText(element));
  }
  return line.empty() ? "none" : line;
}

void AddLines(const Json& json, const std::string& indent, std::string* text);

void AddMember(const std::string& name, const Json& value, const std::string& indent,
               std::string* text) {
  absl::StrAppend(text, indent, Printable(name), ":");
  if (IsScalar(value)) {
    absl::StrAppend(text, " ", MemberText(name, value), "\n");
  } else if (value.is_array() && AreScalars(value)) {
    absl::StrAppend(text, " ", ListLine(value), "\n");
  } else if (value.empty()) {
    absl::StrAppend(text, " {}\n");
  } else {
    absl::StrAppend(text, "\n");
    AddLines(value, indent + "  ", text);
  }
}

void AddLines(const Json& json, const std::string& indent, std::string* text) {
  if (json.is_object()) {
    for (const auto& [name, value] : json.items()) AddMember(name, value, indent, text);
  } else if (json.is_array() && !AreScalars(json)) {
    for (const Json& element : json) {
      // The element's lines, of which the first has the dash.
      std::string lines;
      AddLines(element, indent + "  ", &lines);
      if (!lines.empty()) lines[indent.size()] = '-';
      absl::StrAppend(text, lines);
    }
  } else {
    absl::StrAppend(text, indent, json.is_array() ? ListLine(json) : ScalarText(json), "\n");
  }
}

std::string CompactValue(const Json& value) {
  if (value.is_array() && AreScalars(value)) {
    std::string list;
    for (const Json& element : value) {
      absl::StrAppend(&list, list.empty() ? "" : ",", ScalarText(element));
    }
    return list;
  }
  if (!IsScalar(value)) return Dump(value);
  const std::string text = ScalarText(value);
  // A sentence is quoted, so that it is seen where it ends.
  return value.is_string() && absl::StrContains(text, ' ') ? absl::StrCat("\"", text, "\"") : text;
}

}  // namespace

Json ResponseJson(const google::protobuf::MethodDescriptor& method,
                  const google::protobuf::Message& response) {
  const bool ours = method.options().GetExtension(::qmp::local_method);
  return qmp::ToJson(response, {.with_local = ours, .with_zeros = true});
}

bool ReturnsNothing(const google::protobuf::MethodDescriptor& method) {
  const google::protobuf::Descriptor& type = *method.output_type();
  for (int i = 0; i < type.field_count(); ++i) {
    if (type.field(i)->options().GetExtension(::qmp::local) != ::qmp::LOCAL_EVENT_SEQUENCE) {
      return false;
    }
  }
  return true;
}

std::string JsonLine(const Json& json) { return Dump(json) + "\n"; }

std::string ReadableText(const Json& json) {
  std::string text;
  AddLines(json, "", &text);
  return text;
}

std::string CompactText(const Json& json) {
  std::string line;
  for (const auto& [name, value] : json.items()) {
    absl::StrAppend(&line, line.empty() ? "" : " ", Printable(name), "=", CompactValue(value));
  }
  return line;
}

std::string Printable(const std::string& text) {
  std::string clean;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const auto next = static_cast<unsigned char>(i + 1 < text.size() ? text[i + 1] : 0);
    if (byte < 0x20 || byte == 0x7f) {
      absl::StrAppend(&clean, absl::StrFormat("\\u%04x", byte));
    } else if (byte == 0xc2 && next >= 0x80 && next < 0xa0) {
      // Unicode's second set of control characters, U+0080 to U+009F.
      absl::StrAppend(&clean, absl::StrFormat("\\u%04x", next));
      ++i;
    } else {
      clean.push_back(text[i]);
    }
  }
  return clean;
}

std::string BytesText(uint64_t bytes) {
  if (bytes < 1024) return absl::StrCat(bytes, " B");
  double value = static_cast<double>(bytes);
  const char* const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  size_t unit = 0;
  // 1023.95 would be shown as 1024.0.
  for (value /= 1024; value >= 1023.95 && unit + 1 < std::size(units); ++unit) value /= 1024;
  return absl::StrFormat("%.1f %s", value, units[unit]);
}

}  // namespace tidemark::cli
