// Commands on the drives of a virtual machine.

#include <memory>

#include "service/rpc/forward.h"
#include "service/rpc/services.h"
#include "tidemark/block/v1/device.grpc.pb.h"

namespace tidemark::rpc {
namespace {

namespace v1 = ::tidemark::block::v1;

class DeviceService final : public v1::DeviceService::CallbackService {
 public:
  explicit DeviceService(const Front& front) : front_(front) {}
  TIDEMARK_FORWARD(BlockdevChangeMedium)
  TIDEMARK_FORWARD(BlockdevInsertMedium)
  TIDEMARK_FORWARD(BlockdevRemoveMedium)
  TIDEMARK_FORWARD(BlockdevOpenTray)
  TIDEMARK_FORWARD(BlockdevCloseTray)
  TIDEMARK_FORWARD(Eject)
  TIDEMARK_FORWARD(BlockSetIoThrottle)
  TIDEMARK_FORWARD(BlockLatencyHistogramSet)
  TIDEMARK_FORWARD(QueryBlock)
  TIDEMARK_FORWARD(QueryBlockstats)

 private:
  const Front& front_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeDeviceService(const Front& front) {
  return std::make_unique<DeviceService>(front);
}

}  // namespace tidemark::rpc
