// Commands on exports and the NBD server.

#include <memory>

#include "service/rpc/forward.h"
#include "service/rpc/services.h"
#include "tidemark/block/v1/export.grpc.pb.h"

namespace tidemark::rpc {
namespace {

namespace v1 = ::tidemark::block::v1;

class ExportService final : public v1::ExportService::CallbackService {
 public:
  explicit ExportService(const Front& front) : front_(front) {}
  TIDEMARK_FORWARD(NbdServerStart)
  TIDEMARK_FORWARD(NbdServerStop)
  TIDEMARK_FORWARD(NbdServerAdd)
  TIDEMARK_FORWARD(NbdServerRemove)
  TIDEMARK_FORWARD(BlockExportAdd)
  TIDEMARK_FORWARD(BlockExportDel)
  TIDEMARK_FORWARD(QueryBlockExports)

 private:
  const Front& front_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeExportService(const Front& front) {
  return std::make_unique<ExportService>(front);
}

}  // namespace tidemark::rpc
