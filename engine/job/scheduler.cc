#include "engine/job/scheduler.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/job/group_ending.h"
#include "engine/job/job_record.h"
#include "engine/job/job_runner.h"
#include "engine/job/limits.h"

namespace tidemark::job {
namespace {

absl::Status CheckId(absl::string_view id) {
  const bool valid =
      !id.empty() && absl::ascii_isalpha(id[0]) && std::all_of(id.begin(), id.end(), [](char c) {
        return absl::ascii_isalnum(c) || c == '.' || c == '_' || c == '-';
      });
  if (valid) return absl::OkStatus();
  return Error(Reason::kInvalidField,
               absl::StrCat("job id '", id,
                            "' is not valid: a letter, then letters, digits, '.', '_' and '-'"),
               {{"job", id}});
}

absl::Status CheckSpeed(absl::string_view id, int64_t speed) {
  if (speed >= 0) return absl::OkStatus();
  return Error(Reason::kInvalidField,
               absl::StrCat("job '", id, "': speed must not be negative, as ", speed),
               {{"job", id}, {"speed", absl::StrCat(speed)}});
}

}  // namespace

Scheduler::Scheduler(Executor* engine, Executor* workers, RunEnding run_ending, Clock* clock,
                     JobListener* listener)
    : engine_(engine),
      clock_(clock),
      listener_(listener),
      ending_(std::make_unique<GroupEnding>(
          engine, std::move(run_ending), clock, listener,
          GroupEnding::Hooks{[this](JobRecord* record) { runner_->Advance(record); },
                             [this](JobRecord* record) { OnConcluded(record); }})),
      runner_(
          std::make_unique<JobRunner>(engine, workers, clock, listener,
                                      [this](JobRecord* record) { ending_->OnStopped(record); })) {}

Scheduler::~Scheduler() = default;

// ---- Making jobs

absl::Status Scheduler::Validate(const JobOptions& options) const {
  RETURN_IF_ERROR(CheckId(options.id));
  if (Shared(options.id) != nullptr) {
    return Error(Reason::kJobExists, absl::StrCat("job id '", options.id, "' is already in use"),
                 {{"job", options.id}});
  }
  RETURN_IF_ERROR(CheckSpeed(options.id, options.speed));
  if (shutting_down_) {
    return Error(Reason::kShuttingDown,
                 absl::StrCat("job '", options.id, "' cannot be started: shutting down"),
                 {{"job", options.id}});
  }
  if (records_.size() >= kJobsMax) {
    return Error(Reason::kLimitReached,
                 absl::StrCat("job '", options.id, "' cannot be started: there are ", kJobsMax,
                              " jobs already, concluded ones included"),
                 {{"job", options.id}});
  }
  return absl::OkStatus();
}

absl::Status Scheduler::Create(const JobOptions& options, std::unique_ptr<Job> job,
                               std::shared_ptr<JobGroup> group) {
  RETURN_IF_ERROR(Validate(options));
  if (group == nullptr) group = std::make_shared<JobGroup>();
  CHECK(group->phase_ == JobGroup::Phase::kWorking);
  auto record = std::make_shared<JobRecord>(options, std::move(job), std::move(group),
                                            clock_->Now(), listener_);
  record->group->members_.push_back(record.get());
  records_.push_back(record);
  record->Move(JobStatus::kCreated);
  return absl::OkStatus();
}

void Scheduler::Start(absl::string_view id) {
  const std::shared_ptr<JobRecord> record = Shared(id);
  CHECK(record != nullptr && record->status == JobStatus::kCreated);
  runner_->Start(record.get());
}

std::unique_ptr<Job> Scheduler::Undo(absl::string_view id) {
  const std::shared_ptr<JobRecord> record = Shared(id);
  CHECK(record != nullptr && record->status == JobStatus::kCreated);
  std::unique_ptr<Job> job = ending_->Leave(record.get());
  record->error = absl::CancelledError("Operation canceled");
  record->Move(JobStatus::kAborting);
  record->concluded_time = clock_->Now();
  record->Move(JobStatus::kConcluded);
  Forget(record.get());
  ReportIfAllConcluded();
  return job;
}

// ---- Finding them

std::shared_ptr<JobRecord> Scheduler::Shared(absl::string_view id) const {
  for (const auto& record : records_) {
    if (record->options.id == id) return record;
  }
  return nullptr;
}

absl::StatusOr<JobRecord*> Scheduler::FindFor(VerbFamily family, absl::string_view id) const {
  const std::shared_ptr<JobRecord> record = Shared(id);
  if (family == VerbFamily::kBlockJob && (record == nullptr || !record->is_block_job())) {
    return Error(Reason::kBlockJobNotFound, absl::StrCat("block job '", id, "' not found"),
                 {{"job", id}});
  }
  if (record == nullptr) {
    return Error(Reason::kJobNotFound, absl::StrCat("job '", id, "' not found"), {{"job", id}});
  }
  return record.get();
}

absl::StatusOr<JobRecord*> Scheduler::FindFor(VerbFamily family, absl::string_view id,
                                              JobVerb verb) const {
  ASSIGN_OR_RETURN(JobRecord * record, FindFor(family, id));
  if (IsAllowed(verb, record->status)) return record;
  return Error(Reason::kJobState,
               absl::StrCat("job '", id, "' in state '", NameOf(record->status),
                            "' cannot accept command verb '", NameOf(verb), "'"),
               {{"job", id}, {"state", NameOf(record->status)}, {"verb", NameOf(verb)}});
}

// ---- Verbs

absl::Status Scheduler::Cancel(VerbFamily family, absl::string_view id, bool force) {
  ASSIGN_OR_RETURN(JobRecord * found, FindFor(family, id));
  force |= family == VerbFamily::kJob;
  if (!force && found->user_paused) {
    return Error(Reason::kJobState,
                 absl::StrCat("job '", id, "' is paused: resume it, or cancel it by force"),
                 {{"job", id}});
  }
  ASSIGN_OR_RETURN(JobRecord * record, FindFor(family, id, JobVerb::kCancel));
  if (!force && record->status == JobStatus::kReady) {
    TellEnding(record, Ending::kStopInSync);
    return absl::OkStatus();
  }
  return ending_->Cancel(record);
}

// A job that is completing is not cancelled without force any more.
void Scheduler::TellEnding(JobRecord* record, Ending ending) {
  if (!record->told_ending.has_value()) {
    record->told_ending = ending;
    record->job->OnEnding(ending);
  }
  runner_->Wake(record);
}

absl::Status Scheduler::Pause(VerbFamily family, absl::string_view id) {
  ASSIGN_OR_RETURN(JobRecord * record, FindFor(family, id, JobVerb::kPause));
  if (record->user_paused) {
    return Error(Reason::kJobState, absl::StrCat("job '", id, "' is already paused"),
                 {{"job", id}});
  }
  record->user_paused = true;
  runner_->Advance(record);
  return absl::OkStatus();
}

absl::Status Scheduler::Resume(VerbFamily family, absl::string_view id) {
  ASSIGN_OR_RETURN(JobRecord * found, FindFor(family, id));
  if (!found->user_paused) {
    return Error(Reason::kJobState,
                 absl::StrCat("job '", id, "' cannot be resumed: it was not paused"),
                 {{"job", id}});
  }
  ASSIGN_OR_RETURN(JobRecord * record, FindFor(family, id, JobVerb::kResume));
  record->user_paused = false;
  record->io_status = IoStatus::kOk;
  record->job->OnResume();
  runner_->Wake(record);
  return absl::OkStatus();
}

absl::Status Scheduler::SetSpeed(VerbFamily family, absl::string_view id,
                                 int64_t bytes_per_second) {
  ASSIGN_OR_RETURN(JobRecord * record, FindFor(family, id, JobVerb::kSetSpeed));
  RETURN_IF_ERROR(CheckSpeed(id, bytes_per_second));
  record->limiter.set_bytes_per_second(clock_->Elapsed(), static_cast<uint64_t>(bytes_per_second));
  // A turn without limit ends, so that the next one is under the new limit.
  record->interrupted = true;
  runner_->Advance(record);
  return absl::OkStatus();
}

absl::Status Scheduler::Complete(VerbFamily family, absl::string_view id) {
  ASSIGN_OR_RETURN(JobRecord * record, FindFor(family, id, JobVerb::kComplete));
  if (record->told_ending == Ending::kStopInSync) {
    return Error(Reason::kJobState,
                 absl::StrCat("job '", id, "' is being cancelled and cannot be completed"),
                 {{"job", id}, {"verb", NameOf(JobVerb::kComplete)}});
  }
  TellEnding(record, Ending::kComplete);
  return absl::OkStatus();
}

absl::Status Scheduler::Finalize(VerbFamily family, absl::string_view id) {
  ASSIGN_OR_RETURN(JobRecord * record, FindFor(family, id, JobVerb::kFinalize));
  return ending_->Finalize(record);
}

absl::Status Scheduler::Dismiss(VerbFamily family, absl::string_view id) {
  ASSIGN_OR_RETURN(JobRecord * record, FindFor(family, id, JobVerb::kDismiss));
  Forget(record);
  return absl::OkStatus();
}

absl::Status Scheduler::Change(absl::string_view id, JobType type, CopyMode mode) {
  ASSIGN_OR_RETURN(JobRecord * record, FindFor(VerbFamily::kBlockJob, id, JobVerb::kChange));
  if (record->options.type != type) {
    return Error(Reason::kFeatureUnsupported,
                 absl::StrCat("job '", id, "' of type '", NameOf(record->options.type),
                              "' cannot be changed as one of type '", NameOf(type), "'"),
                 {{"job", id}});
  }
  return Annotate(record->job->Change(mode), absl::StrCat("job '", id, "'"));
}

// ---- Queries

std::vector<JobSnapshot> Scheduler::QueryJobs() const {
  std::vector<JobSnapshot> jobs;
  for (auto record = records_.rbegin(); record != records_.rend(); ++record) {
    jobs.push_back((*record)->Snapshot());
  }
  return jobs;
}

std::vector<JobSnapshot> Scheduler::QueryBlockJobs() const {
  std::vector<JobSnapshot> jobs = QueryJobs();
  jobs.erase(std::remove_if(jobs.begin(), jobs.end(),
                            [](const JobSnapshot& job) { return !IsBlockJob(job.type); }),
             jobs.end());
  return jobs;
}

absl::StatusOr<JobSnapshot> Scheduler::Find(absl::string_view id) const {
  ASSIGN_OR_RETURN(const JobRecord* record, FindFor(VerbFamily::kJob, id));
  return record->Snapshot();
}

// ---- The end

void Scheduler::CancelAll(Task done) {
  shutting_down_ = true;
  when_all_concluded_.push_back(std::move(done));
  for (const Records records = records_; const auto& record : records) {
    if (!IsAllowed(JobVerb::kCancel, record->status)) continue;
    // Refused if the commit has begun: that ends by itself.
    ending_->Cancel(record.get()).IgnoreError();
  }
  ReportIfAllConcluded();
}

void Scheduler::Forget(JobRecord* record) {
  const std::shared_ptr<JobRecord> kept = record->shared_from_this();
  records_.remove(kept);
  kept->Move(JobStatus::kNull);
}

void Scheduler::OnConcluded(JobRecord* record) {
  if (record->options.auto_dismiss) Forget(record);
  ReportIfAllConcluded();
}

void Scheduler::ReportIfAllConcluded() {
  for (const auto& record : records_) {
    if (!record->is_concluded()) return;
  }
  for (Task& task : std::exchange(when_all_concluded_, {})) engine_->Post(std::move(task));
}

}  // namespace tidemark::job
