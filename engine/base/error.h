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

// One row each: enumerator, name in ErrorInfo (ErrorReason of tidemark.block.v1), status code, QMP
// error class.
#define TIDEMARK_REASONS(ROW)                                                             \
  ROW(InvalidField, "INVALID_FIELD", kInvalidArgument, "GenericError")                    \
  ROW(InvalidCombination, "INVALID_COMBINATION", kInvalidArgument, "GenericError")        \
  ROW(InstanceNotFound, "INSTANCE_NOT_FOUND", kNotFound, "GenericError")                  \
  ROW(NodeNotFound, "NODE_NOT_FOUND", kNotFound, "GenericError")                          \
  ROW(BitmapNotFound, "BITMAP_NOT_FOUND", kNotFound, "GenericError")                      \
  ROW(JobNotFound, "JOB_NOT_FOUND", kNotFound, "GenericError")                            \
  ROW(BlockJobNotFound, "JOB_NOT_FOUND", kNotFound, "DeviceNotActive")                    \
  ROW(ExportNotFound, "EXPORT_NOT_FOUND", kNotFound, "GenericError")                      \
  ROW(FileNotFound, "FILE_NOT_FOUND", kNotFound, "GenericError")                          \
  ROW(ObjectNotFound, "OBJECT_NOT_FOUND", kNotFound, "GenericError")                      \
  ROW(SnapshotNotFound, "SNAPSHOT_NOT_FOUND", kNotFound, "GenericError")                  \
  ROW(NodeExists, "NODE_EXISTS", kAlreadyExists, "GenericError")                          \
  ROW(BitmapExists, "BITMAP_EXISTS", kAlreadyExists, "GenericError")                      \
  ROW(JobExists, "JOB_EXISTS", kAlreadyExists, "GenericError")                            \
  ROW(ExportExists, "EXPORT_EXISTS", kAlreadyExists, "GenericError")                      \
  ROW(InstanceExists, "INSTANCE_EXISTS", kAlreadyExists, "GenericError")                  \
  ROW(SnapshotExists, "SNAPSHOT_EXISTS", kAlreadyExists, "GenericError")                  \
  ROW(ObjectExists, "OBJECT_EXISTS", kAlreadyExists, "GenericError")                      \
  ROW(NodeBusy, "NODE_BUSY", kFailedPrecondition, "GenericError")                         \
  ROW(NodeReadOnly, "NODE_READ_ONLY", kFailedPrecondition, "GenericError")                \
  ROW(NodeNotOwned, "NODE_NOT_OWNED", kFailedPrecondition, "GenericError")                \
  ROW(NodeLacksFeature, "NODE_LACKS_FEATURE", kFailedPrecondition, "GenericError")        \
  ROW(PermissionConflict, "PERMISSION_CONFLICT", kFailedPrecondition, "GenericError")     \
  ROW(ImageLocked, "IMAGE_LOCKED", kFailedPrecondition, "GenericError")                   \
  ROW(ImageFormat, "IMAGE_FORMAT", kFailedPrecondition, "GenericError")                   \
  ROW(SizeMismatch, "SIZE_MISMATCH", kFailedPrecondition, "GenericError")                 \
  ROW(BitmapBusy, "BITMAP_BUSY", kFailedPrecondition, "GenericError")                     \
  ROW(BitmapInconsistent, "BITMAP_INCONSISTENT", kFailedPrecondition, "GenericError")     \
  ROW(BitmapReadOnly, "BITMAP_READ_ONLY", kFailedPrecondition, "GenericError")            \
  ROW(JobState, "JOB_STATE", kFailedPrecondition, "GenericError")                         \
  ROW(NbdServerNotRunning, "NBD_SERVER_NOT_RUNNING", kFailedPrecondition, "GenericError") \
  ROW(NbdServerRunning, "NBD_SERVER_RUNNING", kFailedPrecondition, "GenericError")        \
  ROW(ExportInUse, "EXPORT_IN_USE", kFailedPrecondition, "GenericError")                  \
  ROW(IoError, "IO_ERROR", kFailedPrecondition, "GenericError")                           \
  ROW(InstanceUnusable, "INSTANCE_UNUSABLE", kFailedPrecondition, "GenericError")         \
  ROW(DeviceState, "DEVICE_STATE", kFailedPrecondition, "GenericError")                   \
  ROW(MachineState, "MACHINE_STATE", kFailedPrecondition, "GenericError")                 \
  ROW(ObjectInUse, "OBJECT_IN_USE", kFailedPrecondition, "GenericError")                  \
  ROW(TransactionAborted, "TRANSACTION_ABORTED", kAborted, "GenericError")                \
  ROW(JobCancelled, "JOB_CANCELLED", kCancelled, "GenericError")                          \
  ROW(EventsExpired, "EVENTS_EXPIRED", kOutOfRange, "GenericError")                       \
  ROW(SequenceUnknown, "SEQUENCE_UNKNOWN", kOutOfRange, "GenericError")                   \
  ROW(ForeignLog, "FOREIGN_LOG", kOutOfRange, "GenericError")                             \
  ROW(CommandUnsupported, "COMMAND_UNSUPPORTED", kUnimplemented, "CommandNotFound")       \
  ROW(FieldUnsupported, "FIELD_UNSUPPORTED", kUnimplemented, "GenericError")              \
  ROW(FeatureUnsupported, "FEATURE_UNSUPPORTED", kUnimplemented, "GenericError")          \
  ROW(PathForbidden, "PATH_FORBIDDEN", kPermissionDenied, "GenericError")                 \
  ROW(FileAccessDenied, "FILE_ACCESS_DENIED", kPermissionDenied, "GenericError")          \
  ROW(LimitReached, "LIMIT_REACHED", kResourceExhausted, "GenericError")                  \
  ROW(NoSpace, "NO_SPACE", kResourceExhausted, "GenericError")                            \
  ROW(InstanceUnreachable, "INSTANCE_UNREACHABLE", kUnavailable, "GenericError")          \
  ROW(ConnectionLost, "CONNECTION_LOST", kUnavailable, "GenericError")                    \
  ROW(ShuttingDown, "SHUTTING_DOWN", kUnavailable, "GenericError")                        \
  ROW(FileNotAnswering, "FILE_NOT_ANSWERING", kUnavailable, "GenericError")               \
  ROW(ImageCorrupt, "IMAGE_CORRUPT", kDataLoss, "GenericError")                           \
  ROW(QemuRefused, "QEMU_REFUSED", kUnknown, "GenericError")

enum class Reason {
#define TIDEMARK_ROW(enumerator, name, code, qmp_class) k##enumerator,
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

// Whether it was made by Error for that reason.
bool HasReason(const absl::Status& status, Reason reason);

// The same error with "`noun`: " before its message: each layer adds its noun once.
absl::Status Annotate(const absl::Status& status, absl::string_view noun);

absl::StatusCode CodeOf(Reason reason);
absl::string_view QmpClassOf(Reason reason);
// UPPER_SNAKE_CASE, as in ErrorInfo: "NODE_NOT_FOUND".
absl::string_view NameOf(Reason reason);

}  // namespace tidemark

#endif  // ENGINE_BASE_ERROR_H_
