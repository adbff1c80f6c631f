// What was missed, found by asking: QEMU lists the jobs it still has, the books know the rest. What
// is told from here is marked as recovered; it may repeat what had been told before the break, but
// leaves nothing out that a client waits for.
#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "adapters/qmp/job_keeper.h"
#include "adapters/qmp/limits.h"
#include "engine/backend/job_events.h"

namespace tidemark::qmp {
namespace {

namespace v1 = ::tidemark::block::v1;

// QEMU's word for it.
constexpr char kCancelledText[] = "Operation canceled";
constexpr char kRestarted[] = "QEMU ended or was replaced while the job ran";
constexpr char kBeginUnsaved[] =
    "The service ended before it had saved what became of the job, and QEMU does not have it";

bool IsReadyOrLater(v1::JobStatus status) {
  return status == v1::JOB_STATUS_READY || status == v1::JOB_STATUS_STANDBY;
}

// What BLOCK_JOB_READY, _COMPLETED and _CANCELLED have in common.
template <typename Event>
void FillFigures(const v1::Job& job, Event* event) {
  event->set_type(job.type());
  event->set_device(job.id());
  event->set_len(job.total_bytes());
  event->set_offset(job.progress_bytes());
  event->set_speed(job.speed_bytes_per_second());
}

bool GoesByItself(const v1::BlockJobInfo* block) {
  return block != nullptr && block->auto_dismiss();
}

}  // namespace

// What the log tells of jobs that have not gone, whoever started them, and what was stored of ours.
void JobKeeper::Restore(const std::vector<Job>& stored) {
  MutexLock lock(&mutex_);
  for (const Job& told : jobs_.Remaining(instance_)) {
    Record& record = Add(told.id());
    record.job = told;
    record.status = told.status();
    record.pause_wanted =
        told.status() == v1::JOB_STATUS_PAUSED || told.status() == v1::JOB_STATUS_STANDBY;
  }
  for (const Job& job : stored) {
    const auto entry = jobs_.Find(instance_, job.id());
    const bool is_told = entry.ok() && entry->view.job().start_sequence() > job.start_sequence();
    const auto told = records_.find(job.id());
    if (is_told && told == records_.end()) {  // Gone; only the store had not been told yet.
      DeleteStored(job.id());
      continue;
    }
    // One that began before this one was asked for is an earlier one, and has gone.
    if (!is_told && told != records_.end()) TellGone(kEndedUnseen, &told->second);
    Record& record = is_told ? told->second : Add(job.id());
    const std::string error = record.job.error();
    const v1::ErrorReason reason = record.job.error_reason();
    record.job = job;
    record.job.set_instance(instance_);
    record.job.set_error(error);
    record.job.set_error_reason(reason);
    record.is_ours = true;
    record.dismissed_by_us = job.auto_dismiss();
  }
}

void JobKeeper::TellFound(backend::Event event) {
  event.set_recovered(true);
  log_.Append(instance_, std::move(event));
}

void JobKeeper::TellFoundStatus(Record* record, JobStatus status) {
  record->status = status;
  TellFound(backend::StatusChangeOf(record->job, status));
}

void JobKeeper::TellEnd(Record* record, const JobInfo& info, bool is_block_job) {
  Job& job = record->job;
  const bool failed = !info.error().empty();
  if (failed) TellFoundStatus(record, v1::JOB_STATUS_ABORTING);
  if (is_block_job && !record->end_told) {
    backend::Event event;
    if (info.error() == kCancelledText) {
      FillFigures(job, event.mutable_block_job_cancelled());
    } else {
      FillFigures(job, event.mutable_block_job_completed());
      if (failed) event.mutable_block_job_completed()->set_error(info.error());
    }
    record->end_told = true;
    TellFound(std::move(event));
  }
  if (failed) SetError(info.error(), &job);
  TellProgress(*record);
  TellFoundStatus(record, v1::JOB_STATUS_CONCLUDED);
}

// From what was last told to what QEMU says now.
void JobKeeper::CatchUp(Record* record, const JobInfo& info, const BlockJobInfo* block) {
  Update(info, block, record);
  const JobStatus now = info.status();
  if (record->status == v1::JOB_STATUS_CONCLUDED) {
    // It may have been told without its error, if the connection broke over the question.
    if (record->job.error().empty() && !info.error().empty()) SetError(info.error(), &record->job);
    TellProgress(*record);
    return;
  }
  if (record->status == v1::JOB_STATUS_UNSPECIFIED) {
    TellFoundStatus(record, v1::JOB_STATUS_CREATED);
  }
  if (now == v1::JOB_STATUS_CONCLUDED) {
    TellEnd(record, info, block != nullptr);
    return;
  }
  if (IsReadyOrLater(now) && !record->ready_told) {
    backend::Event event;
    FillFigures(record->job, event.mutable_block_job_ready());
    record->ready_told = true;
    if (!IsReadyOrLater(record->status)) TellFoundStatus(record, v1::JOB_STATUS_READY);
    TellFound(std::move(event));
  }
  if (record->status != now) TellFoundStatus(record, now);
  if (now == v1::JOB_STATUS_PENDING && block != nullptr && !block->auto_finalize() &&
      !record->pending_told) {
    backend::Event event;
    event.mutable_block_job_pending()->set_id(record->job.id());
    event.mutable_block_job_pending()->set_type(record->job.type());
    record->pending_told = true;
    TellFound(std::move(event));
  }
  TellProgress(*record);
}

// Whether the id is that of another job by now: one that had ended lives, or is of another type, or
// would go by itself where ours was asked to wait.
bool JobKeeper::IsAnother(const JobInfo& info, const BlockJobInfo* block) const {
  const auto found = records_.find(info.id());
  if (found == records_.end()) return false;
  const Record& record = found->second;
  const bool had_ended = record.status == v1::JOB_STATUS_CONCLUDED;
  return (had_ended && info.status() != v1::JOB_STATUS_CONCLUDED) ||
         (record.status == v1::JOB_STATUS_UNSPECIFIED && GoesByItself(block)) ||
         (record.job.type() != v1::JOB_TYPE_UNSPECIFIED &&
          info.type() != v1::JOB_TYPE_UNSPECIFIED && record.job.type() != info.type());
}

void JobKeeper::Lose(const std::string& id, absl::string_view error, After* after) {
  Record& record = records_.at(id);
  // An earlier process stored it. Its starter may have been told that it began.
  const bool was_seen = record.status != v1::JOB_STATUS_UNSPECIFIED;
  if (!was_seen) TellFoundStatus(&record, v1::JOB_STATUS_CREATED);
  TellGone(was_seen ? error : kBeginUnsaved, &record);
  Forget(id, after);
}

void JobKeeper::TellGone(absl::string_view error, Record* record) {
  if (record->status != v1::JOB_STATUS_CONCLUDED) {
    record->job.set_error(std::string(error));
    record->job.set_error_reason(v1::ERROR_REASON_CONNECTION_LOST);
    TellProgress(*record);
  }
  TellFoundStatus(record, v1::JOB_STATUS_NULL);
}

void JobKeeper::EndAll(absl::string_view error) {
  After after;
  {
    MutexLock lock(&mutex_);
    std::vector<std::string> ids;
    for (const auto& [id, record] : records_) ids.push_back(id);
    for (const std::string& id : ids) Lose(id, error, &after);
    for (const auto& [id, jobs] : intended_) {
      after.push_back([this, id = id] { DeleteStored(id); });
    }
    intended_.clear();
  }
  for (const auto& then : after) then();
}

void JobKeeper::Reconcile(const v1::QueryJobsResponse& jobs,
                          const v1::QueryBlockJobsResponse& block_jobs, bool same_qemu) {
  if (!same_qemu) EndAll(kRestarted);
  std::set<std::string> listed;
  for (const JobInfo& info : jobs.jobs()) listed.insert(info.id());
  std::map<std::string, const BlockJobInfo*> block;
  for (const BlockJobInfo& info : block_jobs.jobs()) block[info.device()] = &info;

  After after;
  {
    MutexLock lock(&mutex_);
    knows_all_ = true;
    std::vector<std::string> missing;
    for (const auto& [id, record] : records_) {
      if (!listed.contains(id)) missing.push_back(id);
    }
    for (const std::string& id : missing) Lose(id, kEndedUnseen, &after);
    // Oldest first: QEMU lists the newest first.
    for (int i = jobs.jobs_size() - 1; i >= 0; --i) {
      const JobInfo& info = jobs.jobs(i);
      const auto figures = block.find(info.id());
      const BlockJobInfo* const of_block = figures == block.end() ? nullptr : figures->second;
      if (IsAnother(info, of_block)) Lose(info.id(), kEndedUnseen, &after);
      const auto found = records_.find(info.id());
      if (found == records_.end() && records_.size() >= kJobsMax) continue;
      Record& record = found == records_.end() ? Begin(info.id()) : found->second;
      // We never let one go by itself: it was taken for one of a request whose fate was unknown.
      if (GoesByItself(of_block)) GiveToOthers(&record);
      CatchUp(&record, info, of_block);
      if (record.status == v1::JOB_STATUS_CONCLUDED && record.dismissed_by_us) {
        DismissWhenSaved(info.id(), &after);
      }
    }
    // Requests whose fate was unknown have not begun anything else.
    for (auto it = intended_.begin(); it != intended_.end();) {
      std::erase_if(it->second, [](const auto& entry) { return entry.first == 0; });
      if (!it->second.empty()) {
        ++it;
        continue;
      }
      after.push_back([this, id = it->first] { DeleteStored(id); });
      it = intended_.erase(it);
    }
    after.push_back(hooks_.alive);
  }
  for (const auto& then : after) then();
}

}  // namespace tidemark::qmp
