// What GetCapabilities answers. Any thread.
#ifndef SERVICE_DISPATCH_CAPABILITIES_RESPONSE_H_
#define SERVICE_DISPATCH_CAPABILITIES_RESPONSE_H_

#include <string>

#include "engine/backend/capabilities.h"
#include "tidemark/block/v1/instance.pb.h"

namespace tidemark::dispatch {

// The engine's own answer, completed by what follows from the protos and by the limits of
// the event log and of requests. Limits of connections are the caller's to add.
void FillCapabilities(const backend::Capabilities& capabilities, const std::string& version,
                      ::tidemark::block::v1::GetCapabilitiesResponse* response);

}  // namespace tidemark::dispatch

#endif  // SERVICE_DISPATCH_CAPABILITIES_RESPONSE_H_
