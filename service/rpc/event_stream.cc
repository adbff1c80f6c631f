#include "service/rpc/event_stream.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/backend/event_subject.h"
#include "engine/backend/proto_time.h"
#include "engine/backend/validate.h"
#include "engine/base/error.h"
#include "service/rpc/limits.h"

namespace tidemark::rpc {

namespace v1 = ::tidemark::block::v1;

EventStream::EventStream(const Front& front, grpc::CallbackServerContext* context,
                         const v1::WatchEventsRequest& request)
    : LogStream(front, context),
      instances_(request.instances().begin(), request.instances().end()),
      passing_instances_(request.instances()),
      job_ids_(request.job_ids()),
      node_names_(request.node_names()),
      kinds_(request.kinds()),
      last_sent_(front.clock.Elapsed()) {
  absl::Status status = backend::Validate(request);
  heartbeat_interval_ = request.has_heartbeat_interval()
                            ? backend::FromProto(request.heartbeat_interval())
                            : kHeartbeatDefault;
  cursor_ = request.has_after() ? request.after() : front.log.shown();
  if (status.ok()) status = CheckLog(request);
  if (status.ok()) status = front.log.Read(cursor_, 0, instances_).status();
  Start(std::move(status), 2 * request.SpaceUsedLong());
}

absl::Status EventStream::CheckLog(const v1::WatchEventsRequest& request) const {
  const std::string& id = front().log.id();
  if (request.log_id().empty() || request.log_id() == id) return absl::OkStatus();
  return Error(Reason::kForeignLog,
               absl::StrCat("Sequence ", request.after(), " is of the event log '",
                            request.log_id(), "', but this service keeps '", id, "' now"),
               {{"log_id", id}});
}

EventStream::Turn EventStream::TakeTurn(v1::WatchEventsResponse* response) {
  if (!std::exchange(greeted_, true)) {
    FillHeartbeat(response);
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
  if (!passing_instances_.Passes(event.instance()) || !kinds_.Passes(event.kind())) return false;
  const absl::string_view job = backend::JobIdOf(event);
  if (!job_ids_.Passes(job)) return false;
  if (node_names_.empty()) return true;
  const auto is_wanted = [this](const std::string& node) { return node_names_.Passes(node); };
  return backend::NamesNode(event, is_wanted) ||
         (!job.empty() && front().jobs.WorksOn(event.instance(), job, event.sequence(), is_wanted));
}

void EventStream::FillHeartbeat(v1::WatchEventsResponse* response) {
  response->mutable_heartbeat()->set_sequence(cursor_);
  response->mutable_heartbeat()->set_log_id(front().log.id());
  backend::ToProto(front().clock.Now(), response->mutable_heartbeat()->mutable_time());
  last_sent_ = front().clock.Elapsed();
  told_ = cursor_;
}

}  // namespace tidemark::rpc
