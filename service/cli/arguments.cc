#include "service/cli/arguments.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"

namespace tidemark::cli {
namespace {

using qmp::Json;

absl::Status Refuse(absl::string_view what) { return Error(Reason::kInvalidField, what); }

absl::StatusOr<Json> ParseValue(const std::string& key, const std::string& text) {
  if (text.empty() || (text.front() != '{' && text.front() != '[')) return Json(text);
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return Refuse(absl::StrCat(key, ": not valid JSON: ", text));
  return json;
}

// Puts `value` where the dotted `key` says.
absl::Status Insert(const std::string& key, Json value, Json* root) {
  Json* at = root;
  const std::vector<std::string> parts = absl::StrSplit(key, '.');
  for (size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].empty()) return Refuse(absl::StrCat("\"", key, "\" has an empty part"));
    const bool last = i + 1 == parts.size();
    if (!at->is_object()) {
      return Refuse(absl::StrCat("\"", key, "\" goes into a member that has a plain value"));
    }
    const bool is_new = !at->contains(parts[i]);
    if (last && !is_new) return Refuse(absl::StrCat("\"", key, "\" is given twice"));
    Json& member = (*at)[parts[i]];
    if (last) {
      member = std::move(value);
    } else if (is_new) {
      member = Json::object();
    }
    at = &member;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Json> JsonFromArguments(const std::vector<std::string>& arguments) {
  Json root = Json::object();
  for (const std::string& argument : arguments) {
    const size_t equals = argument.find('=');
    if (equals == std::string::npos || equals == 0) {
      return Refuse(absl::StrCat("\"", argument, "\" is not of the form member=value"));
    }
    const std::string key = argument.substr(0, equals);
    ASSIGN_OR_RETURN(Json value, ParseValue(key, argument.substr(equals + 1)));
    RETURN_IF_ERROR(Insert(key, std::move(value), &root));
  }
  return root;
}

absl::StatusOr<Json> JsonFromText(const std::string& text) {
  Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return Refuse("the request is not valid JSON");
  if (!json.is_object()) return Refuse("the request is not a JSON object");
  return json;
}

absl::Status FillRequest(const Json& json, qmp::Strictness strictness,
                         const absl::optional<std::string>& instance,
                         google::protobuf::Message* request) {
  RETURN_IF_ERROR(qmp::FromJson(json, strictness, request));
  if (!instance.has_value()) return absl::OkStatus();
  const auto& type = *request->GetDescriptor();
  if (const auto* const one = type.FindFieldByName("instance"); one != nullptr) {
    request->GetReflection()->SetString(request, one, *instance);
    return absl::OkStatus();
  }
  const auto* const several = type.FindFieldByName("instances");
  if (several == nullptr) return Refuse("--instance: this command is for no engine");
  request->GetReflection()->AddString(request, several, *instance);
  return absl::OkStatus();
}

}  // namespace tidemark::cli
