#include "engine/backend/error_reason.h"

#include "absl/strings/str_cat.h"

namespace tidemark::backend {

namespace v1 = ::tidemark::block::v1;

// The names are the same; a test of the table sees to it.
v1::ErrorReason ToProto(Reason reason) {
  v1::ErrorReason proto = v1::ERROR_REASON_UNSPECIFIED;
  v1::ErrorReason_Parse(absl::StrCat("ERROR_REASON_", NameOf(reason)), &proto);
  return proto;
}

v1::ErrorReason ErrorReasonOf(const absl::Status& status) {
  const auto details = DetailsOf(status);
  return details.has_value() ? ToProto(details->reason) : v1::ERROR_REASON_UNSPECIFIED;
}

}  // namespace tidemark::backend
