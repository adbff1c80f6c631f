#include "service/rpc/event_stream.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/backend/event_subject.h"
#include "engine/backend/proto_time.h"
#include "engine/backend/validate.h"
#include "engine/base/error.h"
#include "service/rpc/filter.h"
#include "service/rpc/limits.h"

namespace tidemark::rpc {

namespace v1 = ::tidemark::block::v1;

EventStream::EventStream(const Front& front, grpc::CallbackServerContext* context,
                         const v1::WatchEventsRequest& request)
    : LogStream(front, context),
      request_(request),
      instances_(request.instances().begin(), request.instances().end()),
      last_sent_(front.clock.Elapsed()) {
  absl::Status status = backend::Validate(request_);
  heartbeat_interval_ = request_.has_heartbeat_interval()
                            ? backend::FromProto(request_.heartbeat_interval())
                            : kHeartbeatDefault;
  cursor_ = request_.has_after() ? request_.after() : front.log.shown();
  if (status.ok()) status = CheckLog();
  if (status.ok()) status = front.log.Read(cursor_, 0, instances_).status();
  Start(std::move(status));
}

absl::Status EventStream::CheckLog() const {
  const std::string& id = front().log.id();
  if (request_.log_id().empty() || request_.log_id() == id) return absl::OkStatus();
  return Error(Reason::kForeignLog,
               absl::StrCat("Sequence ", request_.after(), " is of the event log '",
                            request_.log_id(), "', but this service keeps '", id, "' now"),
               {{"log_id", id}});
}

EventStream::Turn EventStream::TakeTurn(v1::WatchEventsResponse* response) {
  if (!std::exchange(greeted_, true)) {
    FillHeartbeat(response);
    return {Turn::Kind::kWrite};
  }
  if (read_.empty()) {
    auto events = front().log.Read(cursor_, kEventsPerStepMax, instances_);
    if (!events.ok()) return {Turn::Kind::kFinish, events.status()};
    read_.assign(std::make_move_iterator(events->begin()), std::make_move_iterator(events->end()));
  }
  const bool had_any = !read_.empty();
  while (!read_.empty()) {
    const backend::EventPtr event = std::move(read_.front());
    read_.pop_front();
    cursor_ = event->sequence();
    if (!Passes(*event)) continue;
    *response->mutable_event() = *event;
    last_sent_ = front().clock.Elapsed();
    told_ = cursor_;
    return {Turn::Kind::kWrite};
  }
  if (had_any) return {Turn::Kind::kAgain};
  if (front().streams.ending()) return {Turn::Kind::kFinish, Ending()};
  const absl::Duration silence = front().clock.Elapsed() - last_sent_;
  // Who waits for a sequence that does not pass the filters must hear that it is behind the stream.
  const absl::Duration silence_max =
      told_ < cursor_ ? std::min(kPassedInterval, heartbeat_interval_) : heartbeat_interval_;
  if (silence >= silence_max) {
    FillHeartbeat(response);
    return {Turn::Kind::kWrite};
  }
  return {Turn::Kind::kWait, absl::OkStatus(), cursor_, silence_max - silence};
}

bool EventStream::Passes(const backend::Event& event) const {
  if (!EmptyOrHas(request_.instances(), event.instance())) return false;
  if (!EmptyOrHas(request_.kinds(), event.kind())) return false;
  const absl::string_view job = backend::JobIdOf(event);
  if (!EmptyOrHas(request_.job_ids(), job)) return false;
  if (request_.node_names().empty()) return true;
  const auto names_node = [&event](const std::string& node) {
    return backend::NamesNode(event, node);
  };
  return std::any_of(request_.node_names().begin(), request_.node_names().end(), names_node) ||
         (!job.empty() &&
          front().jobs.WorksOn(event.instance(), job, event.sequence(), request_.node_names()));
}

void EventStream::FillHeartbeat(v1::WatchEventsResponse* response) {
  response->mutable_heartbeat()->set_sequence(cursor_);
  response->mutable_heartbeat()->set_log_id(front().log.id());
  backend::ToProto(front().clock.Now(), response->mutable_heartbeat()->mutable_time());
  last_sent_ = front().clock.Elapsed();
  told_ = cursor_;
}

}  // namespace tidemark::rpc
