// Errors as people read them. Pure functions; any thread.
#ifndef SERVICE_CLI_ERROR_TEXT_H_
#define SERVICE_CLI_ERROR_TEXT_H_

#include <string>

#include "absl/status/status.h"
#include "grpcpp/support/status.h"

namespace tidemark::cli {

// Lines for standard error: "tidemark: NODE_NOT_FOUND (NOT_FOUND): ..." and a line for each object
// that the error names. An error of the connection names `address` and says what to do.
std::string ErrorText(const grpc::Status& status, const std::string& address);

// The same for what the command line itself refuses.
std::string ErrorText(const absl::Status& status);

// Whether the connection failed, or the service is stopping: another try later may work.
bool IsBrokenConnection(const grpc::Status& status);

}  // namespace tidemark::cli

#endif  // SERVICE_CLI_ERROR_TEXT_H_
