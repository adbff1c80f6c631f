#include "service/cli/error_text.h"

#include <map>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "service/cli/output.h"

namespace tidemark::cli {
namespace {

// gRPC's codes and absl's are the same numbers.
std::string CodeName(grpc::StatusCode code) {
  return absl::StatusCodeToString(static_cast<absl::StatusCode>(code));
}

absl::optional<google::rpc::ErrorInfo> InfoOf(const grpc::Status& status) {
  google::rpc::Status rich;
  if (!rich.ParseFromString(status.error_details())) return absl::nullopt;
  for (const google::protobuf::Any& detail : rich.details()) {
    google::rpc::ErrorInfo info;
    if (detail.Is<google::rpc::ErrorInfo>() && detail.UnpackTo(&info)) return info;
  }
  return absl::nullopt;
}

}  // namespace

std::string ErrorText(const grpc::Status& status, const std::string& address) {
  const absl::optional<google::rpc::ErrorInfo> info = InfoOf(status);
  const std::string message = Printable(status.error_message());
  if (!info.has_value()) {
    if (status.error_code() == grpc::StatusCode::UNAVAILABLE) {
      return absl::StrCat("tidemark: no connection to ", address, " (UNAVAILABLE): ", message,
                          "\n  Is the daemon running there? Start it with: tidemarkd --listen ",
                          address, "\n");
    }
    if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
      return absl::StrCat("tidemark: no answer from ", address,
                          " within --timeout (DEADLINE_EXCEEDED); what was asked for may still be "
                          "carried out\n");
    }
    return absl::StrCat("tidemark: ", CodeName(status.error_code()), ": ", message, "\n");
  }
  std::string text = absl::StrCat("tidemark: ", Printable(info->reason()), " (",
                                  CodeName(status.error_code()), "): ", message, "\n");
  // A map of protobuf's has no order.
  const std::map<std::string, std::string> objects(info->metadata().begin(),
                                                   info->metadata().end());
  for (const auto& [key, value] : objects) {
    // The class that nearly every error has tells nothing.
    if (key == "qmp_class" && value == "GenericError") continue;
    absl::StrAppend(&text, "  ", Printable(key), ": ", Printable(value), "\n");
  }
  return text;
}

std::string ErrorText(const absl::Status& status) {
  return absl::StrCat("tidemark: ", Printable(std::string(status.message())), "\n");
}

bool IsBrokenConnection(const grpc::Status& status) {
  return status.error_code() == grpc::StatusCode::UNAVAILABLE;
}

}  // namespace tidemark::cli
