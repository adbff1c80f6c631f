// The gRPC services of tidemark.block.v1. Every command of the mirror goes the same way, through
// the Dispatcher; only what is Tidemark's own is answered here. gRPC's threads never wait.
#ifndef SERVICE_RPC_SERVICES_H_
#define SERVICE_RPC_SERVICES_H_

#include <memory>
#include <vector>

#include "grpcpp/impl/service_type.h"
#include "service/rpc/front.h"

namespace tidemark::rpc {

// One of a kind each, in a file of its own.
std::unique_ptr<grpc::Service> MakeNodeService(const Front& front);
std::unique_ptr<grpc::Service> MakeBitmapService(const Front& front);
std::unique_ptr<grpc::Service> MakeJobService(const Front& front);
std::unique_ptr<grpc::Service> MakeTransactionService(const Front& front);
std::unique_ptr<grpc::Service> MakeExportService(const Front& front);
std::unique_ptr<grpc::Service> MakeDeviceService(const Front& front);
std::unique_ptr<grpc::Service> MakeMachineService(const Front& front);
std::unique_ptr<grpc::Service> MakeObjectService(const Front& front);
std::unique_ptr<grpc::Service> MakeEventService(const Front& front);

// All services, to be registered with a server that ends before they do. `front` must outlive them.
std::vector<std::unique_ptr<grpc::Service>> MakeServices(const Front& front);

}  // namespace tidemark::rpc

#endif  // SERVICE_RPC_SERVICES_H_
