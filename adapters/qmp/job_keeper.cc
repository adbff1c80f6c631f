// Requests and events. What is found after a break is in job_reconcile.cc.
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
#include "adapters/qmp/limits.h"
#include "engine/backend/error_reason.h"
#include "engine/base/status_macros.h"

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

bool HasEnded(v1::JobStatus status) {
  return status == v1::JOB_STATUS_CONCLUDED || status == v1::JOB_STATUS_NULL;
}

}  // namespace

void JobKeeper::SetError(const std::string& error, v1::Job* job) {
  job->set_error(error);
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

JobKeeper::Intent JobKeeper::Intend(const std::vector<Job>& jobs) {
  MutexLock lock(&mutex_);
  const Intent intent = next_intent_++;
  for (const Job& job : jobs) {
    intended_[job.id()].emplace_back(intent, Asked(job));
    storing_.erase(job.id());
  }
  return intent;
}

// It begins behind what the log holds now: by that Restore tells it from earlier ones of its id.
v1::Job JobKeeper::Asked(Job job) const {
  job.set_start_sequence(log_.position());
  return job;
}

absl::Status JobKeeper::Store(const std::vector<Job>& jobs) {
  if (store_ == nullptr) return absl::OkStatus();
  MutexLock store_lock(&store_mutex_);
  for (const Job& asked : jobs) {
    const Job job = Asked(asked);
    {
      MutexLock lock(&mutex_);
      const auto known = records_.find(job.id());
      if (known != records_.end() && !HasEnded(known->second.status)) continue;
      storing_[job.id()] = job;
    }
    RETURN_IF_ERROR(store_->SaveJob(job));
  }
  return absl::OkStatus();
}

void JobKeeper::Discard(const std::vector<Job>& jobs) {
  {
    MutexLock lock(&mutex_);
    for (const Job& job : jobs) storing_.erase(job.id());
  }
  for (const Job& job : jobs) DeleteStored(job.id());
}

void JobKeeper::Settle(Intent intent, const std::vector<Job>& jobs, bool may_begin) {
  std::vector<std::string> forgotten;
  {
    MutexLock lock(&mutex_);
    for (const Job& job : jobs) {
      const auto record = records_.find(job.id());
      if (record != records_.end() && record->second.intent == intent) {
        record->second.intent = 0;
        if (!may_begin) {  // Refused, so what began under the id is somebody else's.
          record->second.dismissed_by_us = false;
          record->second.job = JobOfOthers(job.id());
          forgotten.push_back(job.id());
        }
        continue;
      }
      const auto found = intended_.find(job.id());
      if (found == intended_.end()) continue;
      auto& entries = found->second;
      const auto entry = std::find_if(entries.begin(), entries.end(),
                                      [&](const auto& other) { return other.first == intent; });
      if (entry == entries.end()) continue;
      if (may_begin) {
        entry->first = 0;  // Reconcile decides.
        continue;
      }
      entries.erase(entry);
      forgotten.push_back(job.id());
      if (entries.empty()) intended_.erase(found);
    }
  }
  for (const std::string& id : forgotten) DeleteStored(id);
}

// Posted, for it may block. What an intent or a record still needs is stored again instead.
void JobKeeper::DeleteStored(const std::string& id) {
  if (store_ == nullptr) return;
  workers_.Post([keeper = shared_from_this(), id] {
    MutexLock store_lock(&keeper->store_mutex_);
    absl::optional<Job> needed;
    {
      MutexLock lock(&keeper->mutex_);
      const auto intended = keeper->intended_.find(id);
      const auto record = keeper->records_.find(id);
      const auto storing = keeper->storing_.find(id);
      if (storing != keeper->storing_.end()) {
        needed = storing->second;
      } else if (intended != keeper->intended_.end()) {
        needed = intended->second.front().second;
      } else if (record != keeper->records_.end()) {
        needed = record->second.job;
      }
    }
    // If that fails the job is looked for in vain after a restart, or its result is kept in QEMU.
    if (needed.has_value()) {
      keeper->store_->SaveJob(*needed).IgnoreError();
    } else {
      keeper->store_->DeleteJob(keeper->instance_, id).IgnoreError();
    }
  });
}

bool JobKeeper::IsLeaving(const std::string& id) const {
  MutexLock lock(&mutex_);
  const auto found = records_.find(id);
  return found != records_.end() && found->second.dismissed_by_us && HasEnded(found->second.status);
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
  MutexLock lock(&mutex_);
  const auto is_ours_to_dismiss = [&](const std::string& id) {
    const auto found = records_.find(id);
    return found != records_.end() && found->second.dismissed_by_us;
  };
  if (auto* const jobs = dynamic_cast<v1::QueryJobsResponse*>(answer)) {
    auto& list = *jobs->mutable_jobs();
    list.erase(std::remove_if(list.begin(), list.end(),
                              [&](const v1::JobInfo& info) {
                                return info.status() == v1::JOB_STATUS_CONCLUDED &&
                                       is_ours_to_dismiss(info.id());
                              }),
               list.end());
  } else if (auto* const block_jobs = dynamic_cast<v1::QueryBlockJobsResponse*>(answer)) {
    auto& list = *block_jobs->mutable_jobs();
    list.erase(std::remove_if(list.begin(), list.end(),
                              [&](const v1::BlockJobInfo& info) {
                                return info.status() == v1::JOB_STATUS_CONCLUDED &&
                                       is_ours_to_dismiss(info.device());
                              }),
               list.end());
    for (v1::BlockJobInfo& info : list) {
      if (is_ours_to_dismiss(info.device())) info.set_auto_dismiss(true);
    }
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

// A job's first event. What was intended under its id, oldest first, is what it was asked to be.
JobKeeper::Record& JobKeeper::Begin(const std::string& id) {
  Record& record = records_[id];
  record = Record();
  record.job = JobOfOthers(id);
  const auto intended = intended_.find(id);
  if (intended == intended_.end()) return record;
  record.intent = intended->second.front().first;
  record.job = intended->second.front().second;
  record.dismissed_by_us = record.job.auto_dismiss();
  intended->second.pop_front();
  if (intended->second.empty()) intended_.erase(intended);
  return record;
}

void JobKeeper::OnEvent(backend::Event event) {
  After after;
  {
    MutexLock lock(&mutex_);
    const auto known = [&](const std::string& id) -> Record* {
      const auto found = records_.find(id);
      return found == records_.end() ? nullptr : &found->second;
    };
    switch (event.payload_case()) {
      case v1::Event::kJobStatusChange:
        OnStatus(std::move(event), &after);
        break;
      case v1::Event::kBlockJobError: {
        v1::BlockJobErrorEvent& error = *event.mutable_block_job_error();
        error.set_count(1);
        Record* const record = known(error.device());
        if (record != nullptr && error.action() == v1::BLOCK_ERROR_ACTION_STOP) {
          record->pause_wanted = true;
        }
        log_.Append(instance_, std::move(event));
        break;
      }
      case v1::Event::kBlockJobReady:
        if (Record* const record = known(event.block_job_ready().device())) {
          record->ready_told = true;
        }
        log_.Append(instance_, std::move(event));
        break;
      case v1::Event::kBlockJobPending:
        if (Record* const record = known(event.block_job_pending().id())) {
          record->pending_told = true;
        }
        log_.Append(instance_, std::move(event));
        break;
      case v1::Event::kBlockJobCompleted: {
        const v1::BlockJobCompletedEvent& completed = event.block_job_completed();
        if (Record* const record = known(completed.device())) {
          record->end_told = true;
          record->job.set_type(completed.type());
          record->job.set_progress_bytes(completed.offset());
          record->job.set_total_bytes(completed.len());
          SetError(completed.error(), &record->job);
        }
        log_.Append(instance_, std::move(event));
        break;
      }
      case v1::Event::kBlockJobCancelled: {
        const v1::BlockJobCancelledEvent& cancelled = event.block_job_cancelled();
        if (Record* const record = known(cancelled.device())) {
          record->end_told = true;
          record->job.set_type(cancelled.type());
          record->job.set_progress_bytes(cancelled.offset());
          record->job.set_total_bytes(cancelled.len());
        }
        log_.Append(instance_, std::move(event));
        break;
      }
      default:
        log_.Append(instance_, std::move(event));
    }
  }
  for (const auto& then : after) then();
}

void JobKeeper::OnStatus(backend::Event event, After* after) {
  v1::JobStatusChangeEvent& change = *event.mutable_job_status_change();
  const std::string id = change.id();
  const JobStatus status = change.status();
  const auto found = records_.find(id);
  // `created` begins another job under the id: the end of the one before was missed.
  const bool is_new = found == records_.end() || status == v1::JOB_STATUS_CREATED;
  // No QEMU has so many: the peer makes them up.
  if (found == records_.end() && records_.size() >= kJobsMax) return;
  Record& record = is_new ? Begin(id) : found->second;
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
  backend::Event event;
  v1::JobProgressEvent& progress = *event.mutable_job_progress();
  const Job& job = record.job;
  progress.set_id(job.id());
  progress.set_type(job.type());
  progress.set_status(record.status);
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
  log_.Append(instance_, std::move(event));
}

void JobKeeper::DismissWhenSaved(const std::string& id, After* after) {
  const uint64_t position = log_.position();
  after->push_back([this, position, id] {
    log_.RunWhenSaved(position, [weak = weak_from_this(), id] {
      const auto keeper = weak.lock();
      // A job that failed before it began has gone by itself; the id may be another's by now.
      if (keeper != nullptr && keeper->IsLeaving(id)) keeper->hooks_.dismiss(id);
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
  const double bytes = static_cast<double>(samples.back().second - samples.front().second);
  return seconds <= 0 || bytes <= 0 ? 0 : static_cast<int64_t>(bytes / seconds);
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
