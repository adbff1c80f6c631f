// Refusals with a reason: one table from what went wrong to the status code a caller sees, used by
// both engines and turned into google.rpc.ErrorInfo by the gRPC front. Any thread.
//
// The code is chosen by what the caller should do next: fix the request (INVALID_ARGUMENT), look
// again (NOT_FOUND, ALREADY_EXISTS), change the state first (FAILED_PRECONDITION), wait
// (UNAVAILABLE), ...
#ifndef ENGINE_BASE_ERROR_H_
#define ENGINE_BASE_ERROR_H_

#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"

namespace tidemark {

// One row each: name of the enumerator, status code, QMP error class.
#define TIDEMARK_REASONS(ROW)                                   \
  ROW(InvalidArgument, kInvalidArgument, "GenericError")        \
  ROW(NodeNotFound, kNotFound, "GenericError")                  \
  ROW(BitmapNotFound, kNotFound, "GenericError")                \
  ROW(JobNotFound, kNotFound, "GenericError")                   \
  ROW(BlockJobNotFound, kNotFound, "DeviceNotActive")           \
  ROW(ExportNotFound, kNotFound, "GenericError")                \
  ROW(InstanceNotFound, kNotFound, "GenericError")              \
  ROW(FileNotFound, kNotFound, "GenericError")                  \
  ROW(NodeNameTaken, kAlreadyExists, "GenericError")            \
  ROW(BitmapExists, kAlreadyExists, "GenericError")             \
  ROW(JobIdTaken, kAlreadyExists, "GenericError")               \
  ROW(ExportIdTaken, kAlreadyExists, "GenericError")            \
  ROW(ExportNameTaken, kAlreadyExists, "GenericError")          \
  ROW(FileExists, kAlreadyExists, "GenericError")               \
  ROW(NodeBusy, kFailedPrecondition, "GenericError")            \
  ROW(NodeReadOnly, kFailedPrecondition, "GenericError")        \
  ROW(NodeNotMonitorOwned, kFailedPrecondition, "GenericError") \
  ROW(PermissionConflict, kFailedPrecondition, "GenericError")  \
  ROW(ImageLocked, kFailedPrecondition, "GenericError")         \
  ROW(ImageFormat, kFailedPrecondition, "GenericError")         \
  ROW(ImageUnsupported, kUnimplemented, "GenericError")         \
  ROW(ImageCorrupt, kDataLoss, "GenericError")                  \
  ROW(BitmapBusy, kFailedPrecondition, "GenericError")          \
  ROW(BitmapReadOnly, kFailedPrecondition, "GenericError")      \
  ROW(BitmapInconsistent, kFailedPrecondition, "GenericError")  \
  ROW(JobVerbRefused, kFailedPrecondition, "GenericError")      \
  ROW(JobPaused, kFailedPrecondition, "GenericError")           \
  ROW(JobNotPaused, kFailedPrecondition, "GenericError")        \
  ROW(SizesDiffer, kFailedPrecondition, "GenericError")         \
  ROW(NbdServerRunning, kFailedPrecondition, "GenericError")    \
  ROW(NbdServerNotRunning, kFailedPrecondition, "GenericError") \
  ROW(ExportInUse, kFailedPrecondition, "GenericError")         \
  ROW(TransactionAborted, kAborted, "GenericError")             \
  ROW(PathRefused, kPermissionDenied, "GenericError")           \
  ROW(PermissionDenied, kPermissionDenied, "GenericError")      \
  ROW(Unsupported, kUnimplemented, "GenericError")              \
  ROW(CommandUnknown, kUnimplemented, "CommandNotFound")        \
  ROW(NoSpace, kResourceExhausted, "GenericError")              \
  ROW(LimitReached, kResourceExhausted, "GenericError")         \
  ROW(EventsTooOld, kOutOfRange, "GenericError")                \
  ROW(ShuttingDown, kUnavailable, "GenericError")               \
  ROW(IoError, kUnknown, "GenericError")

enum class Reason {
#define TIDEMARK_ROW(name, code, qmp_class) k##name,
  TIDEMARK_REASONS(TIDEMARK_ROW)
#undef TIDEMARK_ROW
};

// What a status carries beside code and message.
struct ErrorDetails {
  Reason reason;
  // The objects and values the message names, as {"node", "drive0"}.
  std::vector<std::pair<std::string, std::string>> metadata;
};

// A status with the code of `reason`. The message says what was attempted, on which named object,
// with the offending value.
absl::Status Error(
    Reason reason, absl::string_view message,
    std::initializer_list<std::pair<absl::string_view, absl::string_view>> metadata = {});

// The details given to Error; absent for a status made otherwise. They survive copies of the
// status.
absl::optional<ErrorDetails> DetailsOf(const absl::Status& status);

// The same error with "`noun`: " before its message: each layer adds its noun once.
absl::Status Annotate(const absl::Status& status, absl::string_view noun);

absl::StatusCode CodeOf(Reason reason);
absl::string_view QmpClassOf(Reason reason);
// UPPER_SNAKE_CASE, as in ErrorInfo: "NODE_NOT_FOUND".
std::string NameOf(Reason reason);

}  // namespace tidemark

#endif  // ENGINE_BASE_ERROR_H_
