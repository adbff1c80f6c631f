#include "tests/simulation/ledger.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "tidemark/block/v1/event.pb.h"

namespace tidemark::simulation {
namespace {

using namespace block::v1;  // NOLINT: about messages.

// Where a job may go from where it is, as QEMU's documents draw it. (A mirror's `ready` and
// `standby` are not for the jobs that are played here.)
bool MayMove(JobStatus from, JobStatus to) {
  constexpr std::pair<JobStatus, JobStatus> kMoves[] = {
      {JOB_STATUS_UNSPECIFIED, JOB_STATUS_CREATED}, {JOB_STATUS_CREATED, JOB_STATUS_RUNNING},
      {JOB_STATUS_CREATED, JOB_STATUS_ABORTING},    {JOB_STATUS_CREATED, JOB_STATUS_NULL},
      {JOB_STATUS_RUNNING, JOB_STATUS_PAUSED},      {JOB_STATUS_PAUSED, JOB_STATUS_RUNNING},
      {JOB_STATUS_RUNNING, JOB_STATUS_WAITING},     {JOB_STATUS_RUNNING, JOB_STATUS_ABORTING},
      {JOB_STATUS_WAITING, JOB_STATUS_PENDING},     {JOB_STATUS_WAITING, JOB_STATUS_ABORTING},
      {JOB_STATUS_PENDING, JOB_STATUS_CONCLUDED},   {JOB_STATUS_PENDING, JOB_STATUS_ABORTING},
      {JOB_STATUS_ABORTING, JOB_STATUS_CONCLUDED},  {JOB_STATUS_CONCLUDED, JOB_STATUS_NULL},
  };
  for (const auto& move : kMoves) {
    if (move.first == from && move.second == to) return true;
  }
  return false;
}

}  // namespace

const Ledger::Job* Ledger::Find(const std::string& id) const {
  const auto found = jobs_.find(id);
  return found == jobs_.end() ? nullptr : &found->second;
}

int Ledger::TakeNewErrors() { return std::exchange(new_errors_, 0); }

std::string Ledger::Add(const std::vector<backend::EventPtr>& events) {
  for (const backend::EventPtr& event : events) {
    const std::string wrong = AddOne(*event);
    if (!wrong.empty()) return absl::StrCat(wrong, ", told by ", event->ShortDebugString());
  }
  return "";
}

std::string Ledger::AddOne(const backend::Event& event) {
  switch (event.payload_case()) {
    case Event::kJobStatusChange: {
      const JobStatusChangeEvent& change = event.job_status_change();
      Job& job = jobs_[change.id()];
      if (!MayMove(job.status, change.status())) {
        return absl::StrCat("job ", change.id(), " goes from ", JobStatus_Name(job.status), " to ",
                            JobStatus_Name(change.status()));
      }
      job.is_block_job = change.type() != JOB_TYPE_CREATE;
      const bool ended = job.completed || job.cancelled;
      if (change.status() == JOB_STATUS_CONCLUDED && job.is_block_job && !ended) {
        return absl::StrCat("job ", change.id(), " is concluded before it has told its end");
      }
      if (job.cancelled && job.status == JOB_STATUS_PENDING &&
          change.status() == JOB_STATUS_CONCLUDED) {
        return absl::StrCat("job ", change.id(), " was cancelled without aborting");
      }
      const absl::Time time =
          absl::FromUnixSeconds(event.time().seconds()) + absl::Nanoseconds(event.time().nanos());
      if (job.status == JOB_STATUS_CREATED) job.began = time;
      if (job.status == JOB_STATUS_RUNNING) job.ended = time;
      if (change.status() == JOB_STATUS_PAUSED) job.paused = true;
      job.status = change.status();
      return "";
    }
    case Event::kBlockJobCompleted: {
      const BlockJobCompletedEvent& end = event.block_job_completed();
      Job& job = jobs_[end.device()];
      if (job.completed || job.cancelled) {
        return absl::StrCat("job ", end.device(), " ends twice");
      }
      const JobStatus expected = end.error().empty() ? JOB_STATUS_PENDING : JOB_STATUS_ABORTING;
      if (job.status != expected) {
        return absl::StrCat("job ", end.device(), " completes while it is ",
                            JobStatus_Name(job.status));
      }
      job.completed = true;
      job.error = end.error();
      return "";
    }
    case Event::kBlockJobCancelled: {
      Job& job = jobs_[event.block_job_cancelled().device()];
      if (job.completed || job.cancelled) {
        return absl::StrCat("job ", event.block_job_cancelled().device(), " ends twice");
      }
      if (job.status != JOB_STATUS_ABORTING) return "a job is cancelled that does not abort";
      job.cancelled = true;
      return "";
    }
    case Event::kBlockJobError: {
      Job& job = jobs_[event.block_job_error().device()];
      if (job.completed || job.cancelled || job.concluded()) return "an error after the end";
      ++job.error_events;
      ++new_errors_;
      return "";
    }
    default:
      return "";
  }
}

}  // namespace tidemark::simulation
