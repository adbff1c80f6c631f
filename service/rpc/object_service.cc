// Commands on user-creatable objects.

#include <memory>

#include "service/rpc/forward.h"
#include "service/rpc/services.h"
#include "tidemark/block/v1/object.grpc.pb.h"

namespace tidemark::rpc {
namespace {

namespace v1 = ::tidemark::block::v1;

class ObjectService final : public v1::ObjectService::CallbackService {
 public:
  explicit ObjectService(const Front& front) : front_(front) {}
  TIDEMARK_FORWARD(ObjectAdd)
  TIDEMARK_FORWARD(ObjectDel)

 private:
  const Front& front_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeObjectService(const Front& front) {
  return std::make_unique<ObjectService>(front);
}

}  // namespace tidemark::rpc
