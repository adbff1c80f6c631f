// Has gRPC ask each call on a connection for a token, whatever it calls: services, health,
// reflection, and what is not there. Any thread.
#ifndef SERVICE_RPC_TOKEN_GUARD_H_
#define SERVICE_RPC_TOKEN_GUARD_H_

#include <memory>

#include "grpc/grpc_security.h"
#include "service/rpc/tokens.h"

namespace tidemark::rpc {

// The metadata that holds a token.
inline constexpr char kAuthorizationKey[] = "authorization";

// Calls on connections of `credentials` from now on need a token of `tokens`, but for clients that
// have shown a certificate. Others end with UNAUTHENTICATED, and a message that says what is
// missing.
void AskForTokens(grpc_server_credentials* credentials, std::shared_ptr<const Tokens> tokens);

}  // namespace tidemark::rpc

#endif  // SERVICE_RPC_TOKEN_GUARD_H_
