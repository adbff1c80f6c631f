#include "tests/support/matchers.h"

#include "absl/strings/strip.h"
#include "qmp/options.pb.h"

namespace tidemark::test {

std::string NameOfReason(v1::ErrorReason reason) {
  return std::string(absl::StripPrefix(v1::ErrorReason_Name(reason), "ERROR_REASON_"));
}

absl::StatusCode CodeOfReason(v1::ErrorReason reason) {
  const std::string name =
      v1::ErrorReason_descriptor()->FindValueByNumber(reason)->options().GetExtension(qmp::status);
  for (int code = 1; code <= 16; ++code) {
    if (absl::StatusCodeToString(static_cast<absl::StatusCode>(code)) == name) {
      return static_cast<absl::StatusCode>(code);
    }
  }
  return absl::StatusCode::kUnknown;
}

}  // namespace tidemark::test
