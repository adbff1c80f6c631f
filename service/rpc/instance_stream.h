// WatchInstances: every instance as it is, then each change, read from the event log.
#ifndef SERVICE_RPC_INSTANCE_STREAM_H_
#define SERVICE_RPC_INSTANCE_STREAM_H_

#include <deque>
#include <string>
#include <vector>

#include "engine/backend/filter.h"
#include "service/rpc/log_stream.h"
#include "tidemark/block/v1/instance.pb.h"

namespace tidemark::rpc {

class InstanceStream final : public LogStream<::tidemark::block::v1::WatchInstancesResponse> {
 public:
  // Owns itself. `request` need not outlive the constructor.
  InstanceStream(const Front& front, grpc::CallbackServerContext* context,
                 const ::tidemark::block::v1::WatchInstancesRequest& request);

 private:
  Turn TakeTurn(::tidemark::block::v1::WatchInstancesResponse* response) override;
  void LetGo() override { first_.clear(); }

  // Constant.
  const std::vector<std::string> instances_;
  const backend::Filter<std::string> passing_;

  // Touched by turns only.
  std::deque<::tidemark::block::v1::Instance>
      first_;  // What is still to be sent of the first part.
  bool complete_ = false;
  uint64_t cursor_ = 0;  // Everything up to here was sent or does not pass.
  std::deque<backend::EventPtr> read_;
};

}  // namespace tidemark::rpc

#endif  // SERVICE_RPC_INSTANCE_STREAM_H_
