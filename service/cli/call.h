// One RPC as typed at a shell.
#ifndef SERVICE_CLI_CALL_H_
#define SERVICE_CLI_CALL_H_

#include "google/protobuf/descriptor.h"
#include "service/cli/session.h"

namespace tidemark::cli {

// Calls `method` with what follows the first word of the flags and prints what it returns, each
// response of a stream by itself. Returns the exit status.
int RunCall(const Session& session, const google::protobuf::MethodDescriptor& method);

}  // namespace tidemark::cli

#endif  // SERVICE_CLI_CALL_H_
