// How a job is driven. Everything that happens to a job is first noted in its record; Advance is
// the one place that turns notes into acts, and it acts only while no worker has the job:
//
//   verb, timer, waker, end of a turn --> record --> Advance --> drain | stop | pause | turn |
//   timer
//
// So no act has to know what else is under way, and the order of precedence (the end before the
// pause, the pause before the next turn) is written down once. A turn is many steps if the job may
// run free, one step if its speed is limited; the record's `interrupted` cuts it short.
#include "engine/job/job_runner.h"

#include <algorithm>
#include <utility>

#include "engine/base/check.h"
#include "engine/job/limits.h"

namespace tidemark::job {

struct JobRunner::TurnResult {
  absl::Status failure;
  StepResult last;
  uint64_t moved_bytes = 0;
  bool limited = false;
  absl::Duration began_at;
  bool ready = false;
};

JobRunner::JobRunner(Executor* engine, Executor* workers, Clock* clock, JobListener* listener,
                     std::function<void(JobRecord*)> on_stopped)
    : engine_(engine),
      workers_(workers),
      clock_(clock),
      listener_(listener),
      on_stopped_(std::move(on_stopped)),
      alive_(std::make_shared<JobRunner*>(this)) {}

void JobRunner::Start(JobRecord* record) {
  CHECK(!record->started);
  record->started = true;
  // The waker may be called when the job, or all of this, is long gone.
  record->job->OnStart([alive = alive_, engine = engine_,
                        weak = std::weak_ptr<JobRecord>(record->shared_from_this())] {
    const std::shared_ptr<JobRecord> woken = weak.lock();
    if (woken == nullptr || woken->wake_posted.exchange(true)) return;
    engine->Post([alive, woken] {
      woken->wake_posted = false;
      if (*alive != nullptr) (*alive)->Wake(woken.get());
    });
  });
  record->Move(JobStatus::kRunning);
  Advance(record);
}

bool JobRunner::WantsToStop(const JobRecord& record) const {
  return record.cancel_wanted || !record.error.ok() || record.done;
}

void JobRunner::Advance(JobRecord* record) {
  if (!record->started || record->stopped) return;
  if (record->activity != JobRecord::Activity::kNone) {
    if (WantsToStop(*record) || record->user_paused) record->interrupted = true;
    return;
  }
  TellErrorWhilePaused(record);
  const bool must_rest = WantsToStop(*record) || record->user_paused;
  if (must_rest && !record->drained) return DrainOrWait(record);
  if (WantsToStop(*record)) {
    record->stopped = true;
    on_stopped_(record);
    return;
  }
  if (record->user_paused) {
    if (record->status == JobStatus::kRunning) record->Move(JobStatus::kPaused);
    if (record->status == JobStatus::kReady) record->Move(JobStatus::kStandby);
    return;
  }
  record->LeavePause();
  StepOrWait(record);
}

void JobRunner::Wake(JobRecord* record) {
  if (record->job == nullptr || record->stopped) return;
  if (record->error.ok()) {
    // Nobody steps a job that is paused: so nobody would learn from a step that it is lost.
    record->error = record->job->lost();
    if (!record->error.ok()) record->TellCancel();
  }
  record->woken = true;
  record->wait_until = -absl::InfiniteDuration();
  record->drain_at = -absl::InfiniteDuration();
  Advance(record);
}

// Nobody steps a job that is paused, so nobody would learn from a step what has failed meanwhile.
// Once for each pause: whatever else fails is tried again when the job goes on.
void JobRunner::TellErrorWhilePaused(JobRecord* record) {
  const bool rests = record->user_paused && record->activity == JobRecord::Activity::kNone;
  if (!rests || record->io_status != IoStatus::kOk || WantsToStop(*record)) return;
  const absl::optional<IoError> io_error = record->job->TakeError();
  if (io_error.has_value()) JudgeError(record, *io_error);
}

void JobRunner::DrainOrWait(JobRecord* record) {
  if (clock_->Elapsed() < record->drain_at) return ArmTimer(record, record->drain_at);
  record->activity = JobRecord::Activity::kDraining;
  record->drained = true;
  record->woken = false;
  workers_->Post([this, shared = record->shared_from_this(), job = record->job.get()] {
    const bool drained = job->Drain();
    engine_->Post([this, shared, drained] {
      shared->activity = JobRecord::Activity::kNone;
      shared->drained &= drained;
      shared->in_flight &= !drained;
      shared->drain_at = clock_->Elapsed();
      if (!drained && !shared->woken) shared->drain_at += kDrainInterval;
      Advance(shared.get());
    });
  });
}

void JobRunner::StepOrWait(JobRecord* record) {
  const absl::Duration now = clock_->Elapsed();
  const absl::Duration paid_at = now + record->limiter.DelayAt(now);
  // However slow the job is meant to be: what has happened to what it has begun is seen to at once,
  // a failure above all.
  const absl::Duration begin_at = record->woken ? now : std::min(paid_at, record->look_at);
  const absl::Duration at = std::max({record->wait_until, record->retry_after, begin_at});
  if (at > now) return ArmTimer(record, at);
  BeginTurn(record, record->limiter.BudgetAt(now));
}

void JobRunner::ArmTimer(JobRecord* record, absl::Duration at) {
  if (at == absl::InfiniteDuration() || record->timer_at <= at) return;
  record->timer_at = at;
  engine_->PostAfter(
      at - clock_->Elapsed(),
      [alive = alive_, weak = std::weak_ptr<JobRecord>(record->shared_from_this()), at] {
        const std::shared_ptr<JobRecord> due = weak.lock();
        if (due == nullptr || *alive == nullptr) return;
        if (due->timer_at == at) due->timer_at = absl::InfiniteDuration();
        (*alive)->Advance(due.get());
      });
}

void JobRunner::BeginTurn(JobRecord* record, uint64_t budget_bytes) {
  record->activity = JobRecord::Activity::kStepping;
  record->drained = false;
  record->interrupted = false;
  record->woken = false;
  const bool limited = record->limiter.bytes_per_second() != 0;
  workers_->Post([this, shared = record->shared_from_this(), job = record->job.get(), limited,
                  budget_bytes] {
    TurnResult result = RunTurn(shared.get(), job, clock_, budget_bytes, limited);
    engine_->Post([this, shared, result = std::move(result)] { EndTurn(shared.get(), result); });
  });
}

JobRunner::TurnResult JobRunner::RunTurn(JobRecord* record, Job* job, Clock* clock,
                                         uint64_t budget_bytes, bool limited) {
  TurnResult result;
  result.limited = limited;
  result.began_at = clock->Elapsed();
  for (int step = 0; step < kStepsPerTurnMax; ++step) {
    absl::StatusOr<StepResult> moved = job->Step(budget_bytes);
    if (!moved.ok()) {
      result.failure = moved.status();
      break;
    }
    result.last = *std::move(moved);
    result.moved_bytes += result.last.moved_bytes;
    result.ready |= result.last.ready;
    if (limited || result.last.next != StepResult::Next::kAgain) break;
    if (result.last.io_error.has_value() || record->interrupted.load()) break;
    if (clock->Elapsed() - result.began_at >= kTurnMax) break;
  }
  return result;
}

void JobRunner::EndTurn(JobRecord* record, const TurnResult& result) {
  const absl::Duration now = clock_->Elapsed();
  record->activity = JobRecord::Activity::kNone;
  // What was moved before there was a limit is not held against it.
  if (result.limited) record->limiter.Account(result.began_at, result.moved_bytes);
  record->wait_until = -absl::InfiniteDuration();
  record->in_flight = result.last.in_flight;
  record->look_at = result.last.in_flight ? now + result.last.delay : absl::InfiniteDuration();
  if (result.ready && record->status == JobStatus::kRunning) {
    record->Move(JobStatus::kReady);
    if (listener_ != nullptr) listener_->OnReady(record->Snapshot());
  }
  if (!result.failure.ok()) {
    if (!record->cancel_wanted) {
      record->error = result.failure;
      record->TellCancel();
    }
  } else if (result.last.io_error.has_value()) {
    if (!record->cancel_wanted) JudgeError(record, *result.last.io_error);
  } else {
    if (result.moved_bytes > 0) record->retry_delay = absl::ZeroDuration();
    if (result.last.next == StepResult::Next::kDone) record->done = true;
    const bool waits = result.last.next == StepResult::Next::kWait && !record->woken;
    if (waits) record->wait_until = now + result.last.delay;
  }
  ReportProgress(record);
  Advance(record);
}

void JobRunner::JudgeError(JobRecord* record, const IoError& io_error) {
  const ErrorPolicy policy =
      io_error.is_read ? record->options.on_source_error : record->options.on_target_error;
  const ErrorAction action = ActionFor(policy, io_error.status);
  switch (action) {
    case ErrorAction::kReport:
      record->error = io_error.status;
      record->TellCancel();
      break;
    case ErrorAction::kIgnore:
      record->retry_delay = std::clamp(record->retry_delay * 2, kRetryDelayMin, kRetryDelayMax);
      record->retry_after = clock_->Elapsed() + record->retry_delay;
      break;
    case ErrorAction::kStop:
      record->user_paused = true;
      record->io_status = IsNoSpace(io_error.status) ? IoStatus::kNoSpace : IoStatus::kFailed;
      break;
  }
  if (listener_ != nullptr) listener_->OnError(record->Snapshot(), io_error.is_read, action);
}

void JobRunner::ReportProgress(JobRecord* record) {
  const absl::Duration now = clock_->Elapsed();
  if (listener_ == nullptr || now - record->progress_reported_at < kProgressInterval) return;
  const Progress progress = record->job->progress();
  if (progress == record->progress_reported) return;
  record->progress_reported = progress;
  record->progress_reported_at = now;
  listener_->OnProgress(record->Snapshot());
}

}  // namespace tidemark::job
