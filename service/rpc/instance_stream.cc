#include "service/rpc/instance_stream.h"

#include <utility>

#include "engine/backend/validate.h"
#include "service/rpc/limits.h"

namespace tidemark::rpc {

namespace v1 = ::tidemark::block::v1;

InstanceStream::InstanceStream(const Front& front, grpc::CallbackServerContext* context,
                               const v1::WatchInstancesRequest& request)
    : LogStream(front, context),
      instances_(request.instances().begin(), request.instances().end()),
      passing_(request.instances()) {
  absl::Status status = backend::Validate(request);
  uint64_t bytes = request.SpaceUsedLong();
  if (status.ok()) {
    // The position comes first: what changes after it is told by events.
    cursor_ = front.log.position();
    for (v1::Instance& instance : front.instances.List()) {
      if (!passing_.Passes(instance.id())) continue;
      bytes += instance.SpaceUsedLong();
      first_.push_back(std::move(instance));
    }
  }
  Start(std::move(status), bytes);
}

InstanceStream::Turn InstanceStream::TakeTurn(v1::WatchInstancesResponse* response) {
  response->set_event_sequence(cursor_);
  if (!first_.empty()) {
    *response->mutable_instance() = std::move(first_.front());
    first_.pop_front();
    return {Turn::Kind::kWrite};
  }
  if (!std::exchange(complete_, true)) {
    response->set_complete(true);
    return {Turn::Kind::kWrite};
  }
  if (read_.empty()) {
    const absl::Status status = ReadOn(cursor_, instances_, &read_);
    if (!status.ok()) return {Turn::Kind::kFinish, status};
  }
  const bool had_any = !read_.empty();
  while (!read_.empty()) {
    const backend::EventPtr event = std::move(read_.front());
    read_.pop_front();
    cursor_ = event->sequence();
    if (!event->has_instance_state_change() || !passing_.Passes(event->instance())) continue;
    *response->mutable_instance() = event->instance_state_change().instance();
    response->set_event_sequence(cursor_);
    return {Turn::Kind::kWrite};
  }
  if (had_any) return {Turn::Kind::kAgain};
  if (front().streams.ending()) return {Turn::Kind::kFinish, Ending()};
  return {Turn::Kind::kWait, absl::OkStatus(), cursor_};
}

}  // namespace tidemark::rpc
