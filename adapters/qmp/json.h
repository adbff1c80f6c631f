// JSON as a hostile peer may send it. Pure functions; any thread.
#ifndef ADAPTERS_QMP_JSON_H_
#define ADAPTERS_QMP_JSON_H_

#include <cstddef>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "adapters/qmp/limits.h"
#include "nlohmann/json.hpp"

namespace tidemark::qmp {

// Objects keep the order of their members.
using Json = nlohmann::ordered_json;

struct JsonLimits {
  size_t depth_max = kJsonDepthMax;
  size_t values_max = kJsonValuesMax;
};

// Reads one whole JSON text, white space around it allowed. Integers are exact: one that fits
// neither int64_t nor uint64_t is refused, not rounded. Of members with the same name the first is
// the one that is found. Takes time in proportion to the text and no stack for its depth.
// INVALID_ARGUMENT (kInvalidField) says what is wrong, and where, with nothing of the text itself.
absl::StatusOr<Json> ParseJson(absl::string_view text, const JsonLimits& limits = JsonLimits());

// The member `name` of an object; null if `json` is no object or has none.
const Json* Member(const Json& json, const char* name);
// The same, if it is a string.
const Json::string_t* StringMember(const Json& json, const char* name);

// The beginning of a UTF-8 text: whole characters, up to so many bytes.
std::string Utf8Prefix(absl::string_view text, size_t bytes_max);

}  // namespace tidemark::qmp

#endif  // ADAPTERS_QMP_JSON_H_
