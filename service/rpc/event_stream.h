// WatchEvents: the log, filtered, as one stream.
//
// It holds no queue of its own. It reads the log by cursor at the pace of its reader, so a slow one
// lags behind, and one that lags so far that the log has dropped what comes next is told so
// (OUT_OF_RANGE, naming the oldest sequence) and ends.
#ifndef SERVICE_RPC_EVENT_STREAM_H_
#define SERVICE_RPC_EVENT_STREAM_H_

#include <deque>
#include <string>
#include <vector>

#include "engine/backend/filter.h"
#include "service/rpc/log_stream.h"
#include "tidemark/block/v1/event.pb.h"

namespace tidemark::rpc {

class EventStream final : public LogStream<::tidemark::block::v1::WatchEventsResponse> {
 public:
  // Owns itself. `request` need not outlive the constructor.
  EventStream(const Front& front, grpc::CallbackServerContext* context,
              const ::tidemark::block::v1::WatchEventsRequest& request);

 private:
  Turn TakeTurn(::tidemark::block::v1::WatchEventsResponse* response) override;
  // OK unless the cursor is of another log.
  absl::Status CheckLog(const ::tidemark::block::v1::WatchEventsRequest& request) const;
  bool Passes(const backend::Event& event) const;
  void FillHeartbeat(::tidemark::block::v1::WatchEventsResponse* response);

  // Constant.
  const std::vector<std::string> instances_;
  const backend::Filter<std::string> passing_instances_;
  const backend::Filter<std::string> job_ids_;
  const backend::Filter<std::string> node_names_;
  const backend::Filter<int> kinds_;
  absl::Duration heartbeat_interval_;

  // Touched by turns only.
  bool greeted_ = false;
  uint64_t cursor_ = 0;  // Everything up to here was sent or does not pass.
  uint64_t told_ = 0;    // How far the reader knows that.
  std::deque<backend::EventPtr> read_;
  absl::Duration last_sent_;  // On the clock's Elapsed().
};

}  // namespace tidemark::rpc

#endif  // SERVICE_RPC_EVENT_STREAM_H_
