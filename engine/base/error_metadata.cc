#include "engine/base/error_metadata.h"

#include <string>

#include "absl/strings/cord.h"
#include "engine/base/error.h"

namespace tidemark {

absl::Status WithMetadata(const absl::Status& status, absl::string_view key,
                          absl::string_view value) {
  if (!DetailsOf(status).has_value()) return status;
  absl::Status more = status;
  status.ForEachPayload([&](absl::string_view url, const absl::Cord& payload) {
    // The form that Error gives to details: each key and each value behind a NUL.
    std::string text(payload);
    for (const absl::string_view part : {key, value}) {
      text.push_back('\0');
      text.append(part.data(), part.size());
    }
    more.SetPayload(url, absl::Cord(text));
  });
  return more;
}

std::string MetadataOf(const absl::Status& status, absl::string_view key) {
  const auto details = DetailsOf(status);
  if (!details.has_value()) return "";
  for (const auto& [name, value] : details->metadata) {
    if (name == key) return value;
  }
  return "";
}

}  // namespace tidemark
