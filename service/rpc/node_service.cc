// Commands on nodes and the graph that they make.

#include <memory>

#include "service/rpc/forward.h"
#include "service/rpc/services.h"
#include "tidemark/block/v1/node.grpc.pb.h"

namespace tidemark::rpc {
namespace {

namespace v1 = ::tidemark::block::v1;

class NodeService final : public v1::NodeService::CallbackService {
 public:
  explicit NodeService(const Front& front) : front_(front) {}
  TIDEMARK_FORWARD(BlockdevAdd)
  TIDEMARK_FORWARD(BlockdevDel)
  TIDEMARK_FORWARD(BlockdevCreate)
  TIDEMARK_FORWARD(BlockResize)
  TIDEMARK_FORWARD(BlockdevAmend)
  TIDEMARK_FORWARD(BlockdevReopen)
  TIDEMARK_FORWARD(BlockdevSnapshot)
  TIDEMARK_FORWARD(BlockdevSnapshotSync)
  TIDEMARK_FORWARD(BlockdevSnapshotInternalSync)
  TIDEMARK_FORWARD(BlockdevSnapshotDeleteInternalSync)
  TIDEMARK_FORWARD(ChangeBackingFile)
  TIDEMARK_FORWARD(BlockSetWriteThreshold)
  TIDEMARK_FORWARD(BlockdevSetActive)
  TIDEMARK_FORWARD(BlockdevChange)
  TIDEMARK_FORWARD(BlockdevSetIothread)
  TIDEMARK_FORWARD(DebugQueryBlockGraph)
  TIDEMARK_FORWARD(QueryNamedBlockNodes)

 private:
  const Front& front_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeNodeService(const Front& front) {
  return std::make_unique<NodeService>(front);
}

}  // namespace tidemark::rpc
