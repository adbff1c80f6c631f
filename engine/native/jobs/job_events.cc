#include "engine/native/jobs/job_events.h"

#include <utility>

#include "engine/native/jobs/job_convert.h"
#include "tidemark/block/v1/event.pb.h"

namespace tidemark::native {
namespace {

using block::v1::Event;

// What BLOCK_JOB_COMPLETED, _CANCELLED and _READY have in common.
template <typename Payload>
void FillBlockJob(const job::JobSnapshot& job, Payload* payload) {
  payload->set_type(ToProto(job.type));
  payload->set_device(job.id);
  payload->set_len(job.progress.total_bytes);
  payload->set_offset(job.progress.current_bytes);
  payload->set_speed(job.speed);
}

block::v1::BlockErrorAction ToProto(job::ErrorAction action) {
  switch (action) {
    case job::ErrorAction::kReport:
      return block::v1::BLOCK_ERROR_ACTION_REPORT;
    case job::ErrorAction::kIgnore:
      return block::v1::BLOCK_ERROR_ACTION_IGNORE;
    case job::ErrorAction::kStop:
      return block::v1::BLOCK_ERROR_ACTION_STOP;
  }
  return block::v1::BLOCK_ERROR_ACTION_UNSPECIFIED;
}

// The log's events of the native engine have no instance.
constexpr char kInstance[] = "";

// What "the last few seconds" are of a rate.
constexpr absl::Duration kRatePeriod = absl::Seconds(3);

}  // namespace

void JobEvents::SetNodes(absl::string_view job_id, std::vector<std::string> node_names) {
  nodes_[std::string(job_id)] = std::move(node_names);
}

void JobEvents::ForgetNodes(absl::string_view job_id) { nodes_.erase(job_id); }

std::vector<std::string> JobEvents::NodesOf(const std::vector<std::string>& job_ids) const {
  std::vector<std::string> all;
  for (const std::string& job_id : job_ids) {
    const std::vector<std::string>& names = NodesOf(job_id);
    all.insert(all.end(), names.begin(), names.end());
  }
  return all;
}

const std::vector<std::string>& JobEvents::NodesOf(const std::string& job_id) const {
  static const std::vector<std::string>* const kNone = new std::vector<std::string>;
  const auto found = nodes_.find(job_id);
  return found == nodes_.end() ? *kNone : found->second;
}

int64_t JobEvents::RateOf(const job::JobSnapshot& job) {
  const absl::Duration now = clock_.Elapsed();
  std::deque<Sample>& samples = samples_[job.id];
  // The newest of those that are too old stays: the rate is over at least the whole period.
  while (samples.size() > 1 && now - samples[1].elapsed > kRatePeriod) samples.pop_front();
  samples.push_back({now, job.progress.current_bytes});
  const Sample& oldest = samples.front();
  const double seconds = absl::ToDoubleSeconds(now - oldest.elapsed);
  if (seconds <= 0 || job.progress.current_bytes < oldest.bytes) return 0;
  return static_cast<int64_t>((job.progress.current_bytes - oldest.bytes) / seconds);
}

void JobEvents::OnStatusChange(const job::JobSnapshot& job) {
  // The state of the whole job first, so that whoever follows the events knows the job's speed, its
  // result and the like by the time the state changes. But a job begins with `created`.
  const bool is_first = job.status == job::JobStatus::kCreated;
  if (!is_first) OnProgress(job);
  Event event;
  event.set_kind(block::v1::EVENT_KIND_JOB_STATUS_CHANGE);
  auto* change = event.mutable_job_status_change();
  change->set_id(job.id);
  change->set_status(native::ToProto(job.status));
  change->set_type(native::ToProto(job.type));
  for (const std::string& node : NodesOf(job.id)) change->add_node_names(node);
  log_.Append(kInstance, std::move(event));
  if (is_first) OnProgress(job);
  if (job.status == job::JobStatus::kNull) {
    ForgetNodes(job.id);
    samples_.erase(job.id);
  }
}

void JobEvents::OnCompleted(const job::JobSnapshot& job) {
  Event event;
  event.set_kind(block::v1::EVENT_KIND_BLOCK_JOB_COMPLETED);
  FillBlockJob(job, event.mutable_block_job_completed());
  if (!job.error.ok()) event.mutable_block_job_completed()->set_error(ErrorText(job.error));
  log_.Append(kInstance, std::move(event));
}

void JobEvents::OnCancelled(const job::JobSnapshot& job) {
  Event event;
  event.set_kind(block::v1::EVENT_KIND_BLOCK_JOB_CANCELLED);
  FillBlockJob(job, event.mutable_block_job_cancelled());
  log_.Append(kInstance, std::move(event));
}

void JobEvents::OnReady(const job::JobSnapshot& job) {
  Event event;
  event.set_kind(block::v1::EVENT_KIND_BLOCK_JOB_READY);
  FillBlockJob(job, event.mutable_block_job_ready());
  log_.Append(kInstance, std::move(event));
}

void JobEvents::OnPending(const job::JobSnapshot& job) {
  Event event;
  event.set_kind(block::v1::EVENT_KIND_BLOCK_JOB_PENDING);
  event.mutable_block_job_pending()->set_type(native::ToProto(job.type));
  event.mutable_block_job_pending()->set_id(job.id);
  log_.Append(kInstance, std::move(event));
}

void JobEvents::OnError(const job::JobSnapshot& job, bool is_read, job::ErrorAction action) {
  Event event;
  event.set_kind(block::v1::EVENT_KIND_BLOCK_JOB_ERROR);
  auto* error = event.mutable_block_job_error();
  error->set_device(job.id);
  error->set_operation(is_read ? block::v1::IO_OPERATION_TYPE_READ
                               : block::v1::IO_OPERATION_TYPE_WRITE);
  error->set_action(ToProto(action));
  error->set_count(1);
  log_.Append(kInstance, std::move(event));
}

void JobEvents::OnProgress(const job::JobSnapshot& job) {
  Event event;
  event.set_kind(block::v1::EVENT_KIND_JOB_PROGRESS);
  auto* progress = event.mutable_job_progress();
  progress->set_id(job.id);
  progress->set_type(native::ToProto(job.type));
  progress->set_status(native::ToProto(job.status));
  progress->set_progress_bytes(job.progress.current_bytes);
  progress->set_total_bytes(job.progress.total_bytes);
  progress->set_rate_bytes_per_second(RateOf(job));
  progress->set_speed_bytes_per_second(job.speed);
  progress->set_io_status(IoStatusOf(job));
  for (const std::string& node : NodesOf(job.id)) progress->add_node_names(node);
  progress->set_auto_finalize(job.auto_finalize);
  progress->set_auto_dismiss(job.auto_dismiss);
  progress->set_error(ErrorText(job.error));
  progress->set_error_reason(ErrorReasonOf(job.error));
  log_.Append(kInstance, std::move(event));
}

}  // namespace tidemark::native
