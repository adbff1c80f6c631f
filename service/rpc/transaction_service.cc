// Transactions.

#include <memory>

#include "service/rpc/forward.h"
#include "service/rpc/services.h"
#include "tidemark/block/v1/transaction.grpc.pb.h"

namespace tidemark::rpc {
namespace {

namespace v1 = ::tidemark::block::v1;

class TransactionService final : public v1::TransactionService::CallbackService {
 public:
  explicit TransactionService(const Front& front) : front_(front) {}
  TIDEMARK_FORWARD(Transaction)

 private:
  const Front& front_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeTransactionService(const Front& front) {
  return std::make_unique<TransactionService>(front);
}

}  // namespace tidemark::rpc
