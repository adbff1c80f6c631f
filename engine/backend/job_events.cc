#include "engine/backend/job_events.h"

namespace tidemark::backend {

namespace v1 = ::tidemark::block::v1;

v1::Event ProgressOf(const v1::Job& job, v1::JobStatus status) {
  v1::Event event;
  v1::JobProgressEvent& progress = *event.mutable_job_progress();
  progress.set_id(job.id());
  progress.set_type(job.type());
  progress.set_status(status);
  progress.set_progress_bytes(job.progress_bytes());
  progress.set_total_bytes(job.total_bytes());
  progress.set_rate_bytes_per_second(job.rate_bytes_per_second());
  progress.set_speed_bytes_per_second(job.speed_bytes_per_second());
  progress.set_io_status(job.io_status());
  *progress.mutable_node_names() = job.node_names();
  progress.set_auto_finalize(job.auto_finalize());
  progress.set_auto_dismiss(job.auto_dismiss());
  progress.set_error(job.error());
  progress.set_error_reason(job.error_reason());
  return event;
}

v1::Event StatusChangeOf(const v1::Job& job, v1::JobStatus status) {
  v1::Event event;
  v1::JobStatusChangeEvent& change = *event.mutable_job_status_change();
  change.set_id(job.id());
  change.set_status(status);
  change.set_type(job.type());
  *change.mutable_node_names() = job.node_names();
  return event;
}

}  // namespace tidemark::backend
