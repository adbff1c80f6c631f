// What a client sees of an absl::Status. Any thread.
#ifndef SERVICE_RPC_ERROR_STATUS_H_
#define SERVICE_RPC_ERROR_STATUS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "engine/backend/event_log.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/status.h"

namespace tidemark::rpc {

// Keys of the trailing metadata that every reply carries: the log's position when the engine
// answered, and which log that is; and of one that a reply carries ("true") while not all up to
// that position is saved, although there is a state folder for it.
inline constexpr char kSequenceKey[] = "tidemark-sequence";
inline constexpr char kLogKey[] = "tidemark-log";
inline constexpr char kUnsavedKey[] = "tidemark-unsaved";

// The same code and message, and a google.rpc.Status with an ErrorInfo as details: domain
// "tidemark", reason, metadata with the objects named and the QMP class. `instance` is added unless
// empty. Long texts are cut, and what is not UTF-8 is replaced by '?'.
grpc::Status ToGrpcStatus(const absl::Status& status, absl::string_view instance = "");

// Adds all of these. `sequence` is one that readers of `log` are shown.
void AddTrailers(const backend::EventLog& log, uint64_t sequence, grpc::ServerContextBase* context);

}  // namespace tidemark::rpc

#endif  // SERVICE_RPC_ERROR_STATUS_H_
