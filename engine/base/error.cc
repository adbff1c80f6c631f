#include "engine/base/error.h"

#include <iterator>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/base/check.h"

namespace tidemark {
namespace {

// The payload is "reason\0key\0value\0key\0value": numbers and strings, so that the base needs no
// protobuf. It never leaves the process.
constexpr char kPayloadUrl[] = "tidemark/error-details";

struct Row {
  const char* name;
  absl::StatusCode code;
  const char* qmp_class;
};

constexpr Row kRows[] = {
#define TIDEMARK_ROW(enumerator, name, code, qmp_class) {name, absl::StatusCode::code, qmp_class},
    TIDEMARK_REASONS(TIDEMARK_ROW)
#undef TIDEMARK_ROW
};

const Row& RowOf(Reason reason) {
  const size_t index = static_cast<size_t>(reason);
  CHECK(index < std::size(kRows));
  return kRows[index];
}

}  // namespace

absl::Status Error(
    Reason reason, absl::string_view message,
    std::initializer_list<std::pair<absl::string_view, absl::string_view>> metadata) {
  std::string payload = absl::StrCat(static_cast<int>(reason));
  for (const auto& [key, value] : metadata) {
    payload.push_back('\0');
    payload.append(key.data(), key.size());
    payload.push_back('\0');
    // A NUL cannot be told from the separator; no name of ours may hold one.
    for (char c : value) payload.push_back(c == '\0' ? '?' : c);
  }
  absl::Status status(RowOf(reason).code, message);
  status.SetPayload(kPayloadUrl, absl::Cord(payload));
  return status;
}

absl::optional<ErrorDetails> DetailsOf(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kPayloadUrl);
  if (!payload.has_value()) return absl::nullopt;
  const std::string text(*payload);
  const std::vector<std::string> parts = absl::StrSplit(text, '\0');
  int number = 0;
  CHECK(absl::SimpleAtoi(parts[0], &number));
  ErrorDetails details{static_cast<Reason>(number), {}};
  for (size_t i = 1; i + 1 < parts.size(); i += 2) {
    details.metadata.emplace_back(parts[i], parts[i + 1]);
  }
  return details;
}

bool HasReason(const absl::Status& status, Reason reason) {
  const absl::optional<ErrorDetails> details = DetailsOf(status);
  return details.has_value() && details->reason == reason;
}

absl::Status Annotate(const absl::Status& status, absl::string_view noun) {
  if (status.ok()) return status;
  absl::Status annotated(status.code(), absl::StrCat(noun, ": ", status.message()));
  status.ForEachPayload([&annotated](absl::string_view url, const absl::Cord& payload) {
    annotated.SetPayload(url, payload);
  });
  return annotated;
}

absl::StatusCode CodeOf(Reason reason) { return RowOf(reason).code; }
absl::string_view QmpClassOf(Reason reason) { return RowOf(reason).qmp_class; }

absl::string_view NameOf(Reason reason) { return RowOf(reason).name; }

}  // namespace tidemark
