#include "service/rpc/job_stream.h"

#include <algorithm>
#include <utility>

#include "engine/backend/proto_time.h"
#include "engine/backend/validate.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "service/rpc/limits.h"
#include "service/rpc/peer.h"

namespace tidemark::rpc {
namespace {

namespace v1 = ::tidemark::block::v1;
using Change = JobFollower::Change;

// The job that a request names, once the request is found to be valid.
template <typename Request>
absl::StatusOr<JobFollower> Follow(const Front& front, const Request& request) {
  RETURN_IF_ERROR(backend::Validate(request));
  auto follower = JobFollower::Begin(front.log, front.jobs, request.instance(), request.id());
  if (!follower.ok()) return ExplainNoJob(front, request.instance(), follower.status());
  return follower;
}

}  // namespace

absl::Status ExplainNoJob(const Front& front, absl::string_view instance,
                          const absl::Status& status) {
  return front.router.Find(instance) == nullptr ? dispatch::UnknownInstance(instance) : status;
}

JobStream::JobStream(const Front& front, grpc::CallbackServerContext* context,
                     const v1::WatchJobRequest& request)
    : LogStream(front, context, request.instance()), last_sent_(front.clock.Elapsed()) {
  progress_interval_ = request.has_progress_interval()
                           ? backend::FromProto(request.progress_interval())
                           : kProgressIntervalDefault;
  absl::StatusOr<JobFollower> follower = Follow(front, request);
  if (follower.ok()) follower_ = *std::move(follower);
  Start(follower.status(), request.SpaceUsedLong());
}

JobStream::Turn JobStream::TakeTurn(v1::WatchJobResponse* response) {
  if (!std::exchange(greeted_, true)) return Show(response);
  const absl::StatusOr<Change> change = follower_->Advance();
  if (!change.ok()) return {Turn::Kind::kFinish, change.status()};
  if (*change == Change::kState) return Show(response);
  if (*change == Change::kFigures) figures_changed_ = true;
  const absl::Duration age = front().clock.Elapsed() - last_sent_;
  if (figures_changed_ && age >= progress_interval_) return Show(response);
  if (*change != Change::kNone) return {Turn::Kind::kAgain};
  if (front().streams.ending()) return {Turn::Kind::kFinish, Ending()};
  return {Turn::Kind::kWait, absl::OkStatus(), follower_->cursor(),
          figures_changed_ ? progress_interval_ - age : absl::InfiniteDuration()};
}

JobStream::Turn JobStream::Show(v1::WatchJobResponse* response) {
  *response->mutable_job() = follower_->job();
  figures_changed_ = false;
  last_sent_ = front().clock.Elapsed();
  return {follower_->ended() ? Turn::Kind::kWriteAndFinish : Turn::Kind::kWrite};
}

JobWait::JobWait(const Front& front, grpc::CallbackServerContext* context,
                 const v1::WaitJobRequest& request, v1::WaitJobResponse* response)
    : front_(front),
      context_(context),
      request_(request),
      response_(response),
      pump_(std::make_shared<Pump>(front.log, front.executor, [this] { return Step(); })) {
  const absl::Duration timeout =
      request.has_timeout() ? backend::FromProto(request.timeout()) : kWaitMax;
  deadline_ = front.clock.Elapsed() + std::min(timeout, kWaitMax);
  absl::StatusOr<JobFollower> follower = Follow(front, request);
  absl::Status status = follower.status();
  if (status.ok()) {
    follower_ = *std::move(follower);
    // From here on a service that stops may run Step.
    status = front_.streams.Add(pump_, PeerKey(*context), request.SpaceUsedLong());
  }
  if (!status.ok()) {
    pump_->Stop();
    FinishWith(status);
    return;
  }
  pump_->Kick();
}

Pump::Next JobWait::Step() {
  if (gone_) return FinishWith(absl::CancelledError("The client has gone"));
  for (;;) {
    if (IsAwaited()) return Answer(true);
    const absl::StatusOr<Change> change = follower_->Advance();
    if (!change.ok()) return FinishWith(change.status());
    if (*change == Change::kPause) return {Pump::Next::Kind::kAgain};
    if (*change == Change::kNone) break;
  }
  const absl::Duration left = deadline_ - front_.clock.Elapsed();
  if (left <= absl::ZeroDuration()) return Answer(false);
  if (front_.streams.ending()) {
    return FinishWith(
        Error(Reason::kShuttingDown, "The service is stopping; wait again when it is back"));
  }
  return {Pump::Next::Kind::kWait, follower_->cursor(), left};
}

bool JobWait::IsAwaited() const {
  return follower_->ended() || std::find(request_.statuses().begin(), request_.statuses().end(),
                                         follower_->job().status()) != request_.statuses().end();
}

Pump::Next JobWait::Answer(bool done) {
  *response_->mutable_job() = follower_->job();
  response_->set_done(done);
  return FinishWith(absl::OkStatus());
}

Pump::Next JobWait::FinishWith(const absl::Status& status) {
  AddTrailers(front_.log, front_.log.shown(), context_);
  Finish(ToGrpcStatus(status, request_.instance()));
  return {Pump::Next::Kind::kEnd};
}

void JobWait::OnCancel() {
  gone_ = true;
  pump_->Kick();
}

void JobWait::OnDone() {
  pump_->Stop();
  front_.streams.Remove(pump_);
  delete this;
}

}  // namespace tidemark::rpc
