// Commands on dirty bitmaps.

#include <memory>

#include "service/rpc/forward.h"
#include "service/rpc/services.h"
#include "tidemark/block/v1/bitmap.grpc.pb.h"

namespace tidemark::rpc {
namespace {

namespace v1 = ::tidemark::block::v1;

class BitmapService final : public v1::BitmapService::CallbackService {
 public:
  explicit BitmapService(const Front& front) : front_(front) {}
  TIDEMARK_FORWARD(BlockDirtyBitmapAdd)
  TIDEMARK_FORWARD(BlockDirtyBitmapRemove)
  TIDEMARK_FORWARD(BlockDirtyBitmapClear)
  TIDEMARK_FORWARD(BlockDirtyBitmapEnable)
  TIDEMARK_FORWARD(BlockDirtyBitmapDisable)
  TIDEMARK_FORWARD(BlockDirtyBitmapMerge)
  TIDEMARK_FORWARD(DebugBlockDirtyBitmapSha256)

 private:
  const Front& front_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeBitmapService(const Front& front) {
  return std::make_unique<BitmapService>(front);
}

}  // namespace tidemark::rpc
