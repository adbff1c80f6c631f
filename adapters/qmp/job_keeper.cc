// Events. Requests are in job_intents.cc, what is found after a break in job_reconcile.cc.
//
// Invariants
//  - A record exists from the job's first event, or from when it was found, to its `null`.
//  - An intent exists from before the request is sent until it is settled; the `created` that QEMU
//    sends before its reply turns the oldest intent of that id into a record.
//  - An ended job that we dismiss is dismissed only once its end is saved (RunWhenSaved), so the
//    result is always in QEMU, in the log's tail, or in both.
#include "adapters/qmp/job_keeper.h"

#include <algorithm>

#include "adapters/qmp/error_table.h"
#include "adapters/qmp/json.h"
#include "adapters/qmp/limits.h"
#include "engine/backend/error_reason.h"
#include "engine/backend/event_subject.h"
#include "engine/backend/job_events.h"

namespace tidemark::qmp {
namespace {

namespace v1 = ::tidemark::block::v1;

// A rate is told over this time.
constexpr absl::Duration kRatePeriod = absl::Seconds(3);
// Fewer samples than that many progress reports of kRatePeriod.
constexpr size_t kSamplesMax = 64;

bool IsHeld(v1::JobStatus status) {
  return status == v1::JOB_STATUS_PAUSED || status == v1::JOB_STATUS_STANDBY;
}

bool IsBlockJob(v1::JobType type) {
  return type == v1::JOB_TYPE_BACKUP || type == v1::JOB_TYPE_MIRROR ||
         type == v1::JOB_TYPE_STREAM || type == v1::JOB_TYPE_COMMIT;
}

// The figures that both ends of a block job tell.
template <typename End>
void SetEndFigures(const End& end, v1::Job* job) {
  job->set_type(end.type());
  job->set_progress_bytes(end.offset());
  job->set_total_bytes(end.len());
}

bool HasEnded(v1::JobStatus status) {
  return status == v1::JOB_STATUS_CONCLUDED || status == v1::JOB_STATUS_NULL;
}

}  // namespace

void JobKeeper::SetError(const std::string& error, v1::Job* job) {
  job->set_error(Utf8Prefix(error, kErrorTextBytesMax));
  job->set_error_reason(error.empty() ? v1::ERROR_REASON_UNSPECIFIED
                                      : backend::ToProto(ReasonOfText(error)));
}

JobKeeper::JobKeeper(std::string instance, backend::EventLog& log, const backend::JobBook& jobs,
                     backend::StateStore* store, Executor& workers, Clock& clock, Hooks hooks)
    : instance_(std::move(instance)),
      log_(log),
      jobs_(jobs),
      store_(store),
      workers_(workers),
      clock_(clock),
      hooks_(std::move(hooks)) {}

bool JobKeeper::IsLeaving(const std::string& id) const {
  MutexLock lock(&mutex_);
  const auto found = records_.find(id);
  return found != records_.end() && found->second.dismissed_by_us && HasEnded(found->second.status);
}

bool JobKeeper::IsLeaving(const std::string& id, Generation generation) const {
  MutexLock lock(&mutex_);
  const auto found = records_.find(id);
  return found != records_.end() && found->second.generation == generation &&
         found->second.dismissed_by_us && HasEnded(found->second.status);
}

v1::JobStatus JobKeeper::StatusOf(const std::string& id) const {
  MutexLock lock(&mutex_);
  const auto found = records_.find(id);
  return found == records_.end() ? v1::JOB_STATUS_UNSPECIFIED : found->second.status;
}

bool JobKeeper::SetPauseWanted(const std::string& id, bool wanted) {
  MutexLock lock(&mutex_);
  const auto found = records_.find(id);
  return found != records_.end() && std::exchange(found->second.pause_wanted, wanted);
}

bool JobKeeper::AnyLives() const {
  MutexLock lock(&mutex_);
  return std::any_of(records_.begin(), records_.end(),
                     [](const auto& record) { return !HasEnded(record.second.status); });
}

void JobKeeper::Hide(google::protobuf::Message* answer) const {
  auto* const jobs = dynamic_cast<v1::QueryJobsResponse*>(answer);
  auto* const block_jobs = dynamic_cast<v1::QueryBlockJobsResponse*>(answer);
  if (jobs == nullptr && block_jobs == nullptr) return;
  MutexLock lock(&mutex_);
  const auto is_ours_to_dismiss = [&](const std::string& id) {
    const auto found = records_.find(id);
    return found != records_.end() && found->second.dismissed_by_us;
  };
  const auto is_hidden = [&](const std::string& id, JobStatus status) {
    return status == v1::JOB_STATUS_CONCLUDED && is_ours_to_dismiss(id);
  };
  if (jobs != nullptr) {
    auto& list = *jobs->mutable_jobs();
    list.erase(
        std::remove_if(list.begin(), list.end(),
                       [&](const JobInfo& info) { return is_hidden(info.id(), info.status()); }),
        list.end());
    return;
  }
  auto& list = *block_jobs->mutable_jobs();
  list.erase(std::remove_if(
                 list.begin(), list.end(),
                 [&](const BlockJobInfo& info) { return is_hidden(info.device(), info.status()); }),
             list.end());
  for (BlockJobInfo& info : list) {
    if (is_ours_to_dismiss(info.device())) info.set_auto_dismiss(true);
  }
}

// As far as known of a job that was not started from here: nothing but defaults.
v1::Job JobKeeper::JobOfOthers(const std::string& id) const {
  Job job;
  job.set_instance(instance_);
  job.set_id(id);
  job.set_auto_finalize(true);
  job.set_auto_dismiss(true);
  return job;
}

void JobKeeper::GiveToOthers(Record* record) {
  if (!record->is_ours) return;
  record->is_ours = record->dismissed_by_us = false;
  record->job = JobOfOthers(record->job.id());
}

JobKeeper::Record& JobKeeper::Add(const std::string& id) {
  Record& record = records_[id];
  record = Record();
  record.generation = next_generation_++;
  return record;
}

// A job's first event. What was intended under its id, oldest first, is what it was asked to be.
JobKeeper::Record& JobKeeper::Begin(const std::string& id) {
  Record& record = Add(id);
  record.job = JobOfOthers(id);
  const auto intended = intended_.find(id);
  if (intended == intended_.end()) return record;
  record.intent = intended->second.front().first;
  record.job = intended->second.front().second;
  record.is_ours = true;
  record.dismissed_by_us = record.job.auto_dismiss();
  intended->second.pop_front();
  if (intended->second.empty()) intended_.erase(intended);
  return record;
}

void JobKeeper::OnAttach() {
  MutexLock lock(&mutex_);
  knows_all_ = false;
}

void JobKeeper::OnEvent(backend::Event event) {
  After after;
  {
    MutexLock lock(&mutex_);
    const std::string job(backend::JobIdOf(event));
    if (event.has_job_status_change()) {
      OnStatus(std::move(event), &after);
    } else if (job.empty() || records_.contains(job) || !knows_all_) {
      // QEMU tells of a job only between its first status and its last: others are made up.
      Learn(&event);
      log_.Append(instance_, std::move(event));
    }
  }
  for (const auto& then : after) then();
}

// What an event other than a change of status says of a job.
void JobKeeper::Learn(backend::Event* event) {
  const auto known = [&](const std::string& id) -> Record* {
    const auto found = records_.find(id);
    return found == records_.end() ? nullptr : &found->second;
  };
  switch (event->payload_case()) {
    case v1::Event::kBlockJobError: {
      v1::BlockJobErrorEvent& error = *event->mutable_block_job_error();
      error.set_count(1);
      Record* const record = known(error.device());
      if (record != nullptr && error.action() == v1::BLOCK_ERROR_ACTION_STOP) {
        record->pause_wanted = true;
      }
      break;
    }
    case v1::Event::kBlockJobReady:
      if (Record* const record = known(event->block_job_ready().device())) {
        record->ready_told = true;
      }
      break;
    case v1::Event::kBlockJobPending:
      if (Record* const record = known(event->block_job_pending().id())) {
        record->pending_told = true;
      }
      break;
    case v1::Event::kBlockJobCompleted: {
      const v1::BlockJobCompletedEvent& completed = event->block_job_completed();
      if (Record* const record = known(completed.device())) {
        record->end_told = true;
        SetEndFigures(completed, &record->job);
        SetError(completed.error(), &record->job);
      }
      break;
    }
    case v1::Event::kBlockJobCancelled: {
      const v1::BlockJobCancelledEvent& cancelled = event->block_job_cancelled();
      if (Record* const record = known(cancelled.device())) {
        record->end_told = true;
        SetEndFigures(cancelled, &record->job);
      }
      break;
    }
    default:
      break;
  }
}

void JobKeeper::OnStatus(backend::Event event, After* after) {
  v1::JobStatusChangeEvent& change = *event.mutable_job_status_change();
  const std::string id = change.id();
  const JobStatus status = change.status();
  const auto found = records_.find(id);
  bool is_new = found == records_.end();
  // No QEMU has so many: the peer makes them up.
  if (is_new && records_.size() >= kJobsMax) return;
  if (!is_new &&
      (status == v1::JOB_STATUS_CREATED || (HasEnded(found->second.status) && !HasEnded(status)))) {
    Lose(id, kEndedUnseen, after);  // Another job has its id now.
    is_new = true;
  }
  Record& record = is_new ? Begin(id) : found->second;
  // Of a job that was started through an earlier process nothing has been told yet.
  if (!is_new && record.status == v1::JOB_STATUS_UNSPECIFIED) {
    TellFoundStatus(&record, v1::JOB_STATUS_CREATED);
  }
  change.set_type(record.job.type());
  *change.mutable_node_names() = record.job.node_names();
  // To begin with and after a resume there is no error.
  if ((is_new || (IsHeld(record.status) && !IsHeld(status))) && IsBlockJob(record.job.type())) {
    record.job.set_io_status(v1::BLOCK_DEVICE_IO_STATUS_OK);
  }
  MarkSpontaneous(&change, &record);
  record.status = status;
  if (status == v1::JOB_STATUS_CONCLUDED) TellProgress(record);
  log_.Append(instance_, std::move(event));
  if (is_new) {
    TellProgress(record);
    after->push_back(hooks_.alive);
  }
  if (status == v1::JOB_STATUS_CONCLUDED && record.dismissed_by_us) DismissWhenSaved(id, after);
  if (status == v1::JOB_STATUS_NULL) Forget(id, after);
}

// QEMU holds jobs for an instant whenever it changes the graph near them. A move to `paused` that
// neither a verb nor an error asked for is one of those, and so is the move back.
void JobKeeper::MarkSpontaneous(v1::JobStatusChangeEvent* change, Record* record) {
  if (IsHeld(change->status())) {
    record->held_by_qemu = !record->pause_wanted;
    change->set_spontaneous(record->held_by_qemu);
  } else if (IsHeld(record->status)) {
    change->set_spontaneous(record->held_by_qemu);
    record->held_by_qemu = false;
  }
}

void JobKeeper::TellProgress(const Record& record) {
  log_.Append(instance_, backend::ProgressOf(record.job, record.status));
}

void JobKeeper::DismissWhenSaved(const std::string& id, After* after) {
  const uint64_t position = log_.position();
  const Generation generation = records_.at(id).generation;
  after->push_back([this, position, id, generation] {
    log_.RunWhenSaved(position, [weak = weak_from_this(), id, generation] {
      const auto keeper = weak.lock();
      // A job that failed before it began has gone by itself.
      if (keeper == nullptr || !keeper->IsLeaving(id, generation)) return;
      keeper->hooks_.dismiss(id, generation);
    });
  });
}

void JobKeeper::Forget(const std::string& id, After* after) {
  records_.erase(id);
  const uint64_t position = log_.position();
  after->push_back([this, position, id] {
    hooks_.gone(id);
    log_.RunWhenSaved(position, [weak = weak_from_this(), id] {
      if (const auto keeper = weak.lock()) keeper->DeleteStored(id);
    });
  });
}

bool JobKeeper::NeedsResult(const backend::Event& event) const {
  if (event.payload_case() != v1::Event::kJobStatusChange ||
      event.job_status_change().status() != v1::JOB_STATUS_CONCLUDED) {
    return false;
  }
  MutexLock lock(&mutex_);
  const auto found = records_.find(event.job_status_change().id());
  return found == records_.end() || !found->second.end_told;
}

void JobKeeper::SetResult(const v1::QueryJobsResponse& answer, const std::string& id) {
  MutexLock lock(&mutex_);
  const auto found = records_.find(id);
  if (found == records_.end()) return;
  for (const v1::JobInfo& info : answer.jobs()) {
    if (info.id() != id) continue;
    Job& job = found->second.job;
    job.set_type(info.type());
    job.set_progress_bytes(info.current_progress());
    job.set_total_bytes(info.total_progress());
    SetError(info.error(), &job);
  }
}

bool JobKeeper::Update(const JobInfo& info, const BlockJobInfo* block, Record* record) {
  const Job before = record->job;
  Job& job = record->job;
  job.set_type(info.type());
  job.set_progress_bytes(info.current_progress());
  job.set_total_bytes(info.total_progress());
  if (block != nullptr) {
    job.set_speed_bytes_per_second(block->speed());
    job.set_io_status(block->io_status());
    job.set_auto_finalize(block->auto_finalize());
    if (!record->dismissed_by_us) job.set_auto_dismiss(block->auto_dismiss());
  }
  job.set_rate_bytes_per_second(RateOf(record));
  return before.SerializeAsString() != job.SerializeAsString();
}

int64_t JobKeeper::RateOf(Record* record) {
  const absl::Duration now = clock_.Elapsed();
  auto& samples = record->samples;
  while (!samples.empty() &&
         (samples.size() >= kSamplesMax || now - samples.front().first > kRatePeriod)) {
    samples.pop_front();
  }
  samples.emplace_back(now, record->job.progress_bytes());
  const double seconds = absl::ToDoubleSeconds(now - samples.front().first);
  // A peer may tell any numbers.
  const double bytes =
      static_cast<double>(samples.back().second) - static_cast<double>(samples.front().second);
  constexpr double kRateMax = 1e18;
  return seconds <= 0 || bytes <= 0 ? 0 : static_cast<int64_t>(std::min(bytes / seconds, kRateMax));
}

void JobKeeper::OnFigures(const v1::QueryJobsResponse& jobs,
                          const v1::QueryBlockJobsResponse& block_jobs) {
  std::map<std::string, const BlockJobInfo*> block;
  for (const BlockJobInfo& info : block_jobs.jobs()) block[info.device()] = &info;
  MutexLock lock(&mutex_);
  for (const JobInfo& info : jobs.jobs()) {
    const auto found = records_.find(info.id());
    if (found == records_.end() || HasEnded(found->second.status)) continue;
    const auto figures = block.find(info.id());
    if (Update(info, figures == block.end() ? nullptr : figures->second, &found->second)) {
      TellProgress(found->second);
    }
  }
}

}  // namespace tidemark::qmp
