#include "service/rpc/services.h"

#include "service/rpc/instance_service.h"

namespace tidemark::rpc {

std::vector<std::unique_ptr<grpc::Service>> MakeServices(const Front& front) {
  std::vector<std::unique_ptr<grpc::Service>> services;
  services.push_back(MakeNodeService(front));
  services.push_back(MakeBitmapService(front));
  services.push_back(MakeJobService(front));
  services.push_back(MakeTransactionService(front));
  services.push_back(MakeExportService(front));
  services.push_back(MakeDeviceService(front));
  services.push_back(MakeMachineService(front));
  services.push_back(MakeObjectService(front));
  services.push_back(MakeEventService(front));
  services.push_back(std::make_unique<InstanceService>(front));
  return services;
}

}  // namespace tidemark::rpc
