// Commands on a virtual machine as a whole.

#include <memory>

#include "service/rpc/forward.h"
#include "service/rpc/services.h"
#include "tidemark/block/v1/machine.grpc.pb.h"

namespace tidemark::rpc {
namespace {

namespace v1 = ::tidemark::block::v1;

class MachineService final : public v1::MachineService::CallbackService {
 public:
  explicit MachineService(const Front& front) : front_(front) {}
  TIDEMARK_FORWARD(QueryStatus)
  TIDEMARK_FORWARD(Stop)
  TIDEMARK_FORWARD(Cont)
  TIDEMARK_FORWARD(SnapshotSave)
  TIDEMARK_FORWARD(SnapshotLoad)
  TIDEMARK_FORWARD(SnapshotDelete)

 private:
  const Front& front_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeMachineService(const Front& front) {
  return std::make_unique<MachineService>(front);
}

}  // namespace tidemark::rpc
