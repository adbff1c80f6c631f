// The gRPC services of tidemark.block.v1. Every command of the mirror goes the same way, through
// the Dispatcher; only what is Tidemark's own is answered here. gRPC's threads never wait.
#ifndef SERVICE_RPC_SERVICES_H_
#define SERVICE_RPC_SERVICES_H_

#include <memory>
#include <vector>

#include "grpcpp/impl/service_type.h"
#include "service/rpc/front.h"

namespace tidemark::rpc {

// All services, to be registered with a server that ends before they do. `front` must outlive them.
std::vector<std::unique_ptr<grpc::Service>> MakeServices(const Front& front);

}  // namespace tidemark::rpc

#endif  // SERVICE_RPC_SERVICES_H_
