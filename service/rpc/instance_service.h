// InstanceService: the registry of virtual machines, and what engines can do. gRPC's threads never
// wait.
#ifndef SERVICE_RPC_INSTANCE_SERVICE_H_
#define SERVICE_RPC_INSTANCE_SERVICE_H_

#include "absl/status/status.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/server_callback.h"
#include "service/rpc/front.h"
#include "tidemark/block/v1/instance.grpc.pb.h"

namespace tidemark::rpc {

// `front` must outlive it.
class InstanceService final : public ::tidemark::block::v1::InstanceService::CallbackService {
 public:
  explicit InstanceService(const Front& front) : front_(front) {}

  grpc::ServerUnaryReactor* CreateInstance(
      grpc::CallbackServerContext* context,
      const ::tidemark::block::v1::CreateInstanceRequest* request,
      ::tidemark::block::v1::CreateInstanceResponse* response) override;
  grpc::ServerUnaryReactor* GetInstance(
      grpc::CallbackServerContext* context,
      const ::tidemark::block::v1::GetInstanceRequest* request,
      ::tidemark::block::v1::GetInstanceResponse* response) override;
  grpc::ServerUnaryReactor* ListInstances(
      grpc::CallbackServerContext* context,
      const ::tidemark::block::v1::ListInstancesRequest* request,
      ::tidemark::block::v1::ListInstancesResponse* response) override;
  grpc::ServerUnaryReactor* DeleteInstance(
      grpc::CallbackServerContext* context,
      const ::tidemark::block::v1::DeleteInstanceRequest* request,
      ::tidemark::block::v1::DeleteInstanceResponse* response) override;
  grpc::ServerWriteReactor<::tidemark::block::v1::WatchInstancesResponse>* WatchInstances(
      grpc::CallbackServerContext* context,
      const ::tidemark::block::v1::WatchInstancesRequest* request) override;
  grpc::ServerUnaryReactor* GetCapabilities(
      grpc::CallbackServerContext* context,
      const ::tidemark::block::v1::GetCapabilitiesRequest* request,
      ::tidemark::block::v1::GetCapabilitiesResponse* response) override;

 private:
  void FillPage(const ::tidemark::block::v1::ListInstancesRequest& request,
                ::tidemark::block::v1::ListInstancesResponse* response) const;
  absl::Status FillCapabilities(const ::tidemark::block::v1::GetCapabilitiesRequest& request,
                                ::tidemark::block::v1::GetCapabilitiesResponse* response) const;

  const Front& front_;
};

}  // namespace tidemark::rpc

#endif  // SERVICE_RPC_INSTANCE_SERVICE_H_
