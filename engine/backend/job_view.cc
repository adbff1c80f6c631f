#include "engine/backend/job_view.h"

#include <string>

#include "engine/backend/event_subject.h"

namespace tidemark::backend {
namespace {

namespace v1 = ::tidemark::block::v1;

constexpr char kCancelled[] = "The job was cancelled";

constexpr char kLost[] = "The job ended unseen, and another one has its id now";

// Below this, a rate over the whole run says nothing.
constexpr double kShortestRunSeconds = 0.001;

double SecondsBetween(const google::protobuf::Timestamp& from,
                      const google::protobuf::Timestamp& to) {
  return static_cast<double>(to.seconds() - from.seconds()) +
         1e-9 * static_cast<double>(to.nanos() - from.nanos());
}

}  // namespace

JobView::JobView(const v1::Event& first) {
  job_.set_instance(first.instance());
  job_.set_id(std::string(JobIdOf(first)));
  job_.set_auto_finalize(true);
  job_.set_auto_dismiss(true);
  *job_.mutable_start_time() = first.time();
  job_.set_start_sequence(first.sequence());
  Apply(first);
}

bool JobView::IsOfAnother(const v1::Event& event) const {
  if (job_.status() == v1::JOB_STATUS_NULL) return true;
  // Of a job whose status is not known, only figures have been told so far.
  return event.has_job_status_change() &&
         event.job_status_change().status() == v1::JOB_STATUS_CREATED &&
         job_.status() != v1::JOB_STATUS_UNSPECIFIED;
}

void JobView::Supersede(const v1::Event& event) {
  job_.set_event_sequence(event.sequence());
  job_.set_unsaved(event.unsaved());
  job_.set_status(v1::JOB_STATUS_NULL);
  if (ended()) return;
  if (coming_outcome_ == v1::JOB_OUTCOME_UNSPECIFIED && job_.error().empty()) {
    job_.set_error(kLost);
    job_.set_error_reason(v1::ERROR_REASON_CONNECTION_LOST);
  }
  End(event);
}

void JobView::Apply(const v1::Event& event) {
  job_.set_event_sequence(event.sequence());
  job_.set_unsaved(event.unsaved());
  switch (event.payload_case()) {
    case v1::Event::kJobStatusChange:
      ApplyStatus(event);
      break;
    case v1::Event::kJobProgress:
      ApplyProgress(event);
      break;
    case v1::Event::kBlockJobCompleted: {
      const v1::BlockJobCompletedEvent& completed = event.block_job_completed();
      job_.set_type(completed.type());
      job_.set_speed_bytes_per_second(completed.speed());
      SetFigures(event, completed.offset(), completed.len());
      if (!completed.error().empty()) job_.set_error(completed.error());
      coming_outcome_ =
          completed.error().empty() ? v1::JOB_OUTCOME_SUCCEEDED : v1::JOB_OUTCOME_FAILED;
      break;
    }
    case v1::Event::kBlockJobCancelled: {
      const v1::BlockJobCancelledEvent& cancelled = event.block_job_cancelled();
      job_.set_type(cancelled.type());
      job_.set_speed_bytes_per_second(cancelled.speed());
      SetFigures(event, cancelled.offset(), cancelled.len());
      coming_outcome_ = v1::JOB_OUTCOME_CANCELLED;
      break;
    }
    case v1::Event::kBlockJobError:
      job_.set_error_count(job_.error_count() + event.block_job_error().count());
      if (event.block_job_error().action() == v1::BLOCK_ERROR_ACTION_STOP &&
          job_.io_status() != v1::BLOCK_DEVICE_IO_STATUS_NOSPACE) {
        job_.set_io_status(v1::BLOCK_DEVICE_IO_STATUS_FAILED);
      }
      break;
    case v1::Event::kBlockJobReady: {
      const v1::BlockJobReadyEvent& ready = event.block_job_ready();
      job_.set_type(ready.type());
      job_.set_speed_bytes_per_second(ready.speed());
      SetFigures(event, ready.offset(), ready.len());
      break;
    }
    case v1::Event::kBlockJobPending:
      job_.set_type(event.block_job_pending().type());
      break;
    default:
      break;
  }
}

void JobView::ApplyStatus(const v1::Event& event) {
  const v1::JobStatusChangeEvent& change = event.job_status_change();
  job_.set_status(change.status());
  if (change.type() != v1::JOB_TYPE_UNSPECIFIED) job_.set_type(change.type());
  if (!change.node_names().empty()) *job_.mutable_node_names() = change.node_names();
  if (change.status() == v1::JOB_STATUS_ABORTING) aborting_ = true;
  if ((change.status() == v1::JOB_STATUS_CONCLUDED || change.status() == v1::JOB_STATUS_NULL) &&
      !ended()) {
    End(event);
  }
}

void JobView::ApplyProgress(const v1::Event& event) {
  const v1::JobProgressEvent& progress = event.job_progress();
  if (progress.type() != v1::JOB_TYPE_UNSPECIFIED) job_.set_type(progress.type());
  if (!progress.node_names().empty()) *job_.mutable_node_names() = progress.node_names();
  SetFigures(event, progress.progress_bytes(), progress.total_bytes());
  job_.set_rate_bytes_per_second(progress.rate_bytes_per_second());
  job_.set_speed_bytes_per_second(progress.speed_bytes_per_second());
  job_.set_io_status(progress.io_status());
  job_.set_auto_finalize(progress.auto_finalize());
  job_.set_auto_dismiss(progress.auto_dismiss());
  if (!progress.error().empty()) job_.set_error(progress.error());
  if (progress.error_reason() != v1::ERROR_REASON_UNSPECIFIED) {
    job_.set_error_reason(progress.error_reason());
  }
}

void JobView::SetFigures(const v1::Event& event, int64_t progress, int64_t total) {
  job_.set_progress_bytes(progress);
  job_.set_total_bytes(total);
  *job_.mutable_progress_time() = event.time();
}

void JobView::End(const v1::Event& event) {
  v1::JobOutcome outcome = coming_outcome_;
  if (outcome == v1::JOB_OUTCOME_UNSPECIFIED) {
    // No BLOCK_JOB_* told it: a job that is no block job, or that failed before it began.
    const bool failed = aborting_ || !job_.error().empty() || job_.status() == v1::JOB_STATUS_NULL;
    outcome = !failed                                                 ? v1::JOB_OUTCOME_SUCCEEDED
              : job_.error_reason() == v1::ERROR_REASON_JOB_CANCELLED ? v1::JOB_OUTCOME_CANCELLED
                                                                      : v1::JOB_OUTCOME_FAILED;
  }
  if (outcome == v1::JOB_OUTCOME_CANCELLED) {
    job_.set_error_reason(v1::ERROR_REASON_JOB_CANCELLED);
    if (job_.error().empty()) job_.set_error(kCancelled);
  } else if (outcome == v1::JOB_OUTCOME_SUCCEEDED) {
    job_.clear_error();
    job_.clear_error_reason();
  }
  job_.set_outcome(outcome);
  end_sequence_ = event.sequence();
  *job_.mutable_end_time() = event.time();
  const double seconds = SecondsBetween(job_.start_time(), job_.end_time());
  job_.set_rate_bytes_per_second(
      seconds < kShortestRunSeconds
          ? 0
          : static_cast<int64_t>(static_cast<double>(job_.progress_bytes()) / seconds));
}

}  // namespace tidemark::backend
