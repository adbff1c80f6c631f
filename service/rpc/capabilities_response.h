// What GetCapabilities answers. Any thread.
#ifndef SERVICE_RPC_CAPABILITIES_RESPONSE_H_
#define SERVICE_RPC_CAPABILITIES_RESPONSE_H_

#include <string>

#include "engine/backend/capabilities.h"
#include "tidemark/block/v1/instance.pb.h"

namespace tidemark::rpc {

// The engine's own answer, completed by what follows from the protos and by the service's limits.
void FillCapabilities(const backend::Capabilities& capabilities, const std::string& version,
                      ::tidemark::block::v1::GetCapabilitiesResponse* response);

}  // namespace tidemark::rpc

#endif  // SERVICE_RPC_CAPABILITIES_RESPONSE_H_
