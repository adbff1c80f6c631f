#include "engine/job/group_ending.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/error.h"
#include "engine/base/status_macros.h"
#include "engine/job/limits.h"

namespace tidemark::job {
namespace {

absl::Status HeldTooLong() {
  return Error(
      Reason::kLimitReached,
      absl::StrCat("the last step took more than ", absl::FormatDuration(kGuestHoldMax),
                   " while guests were held: the job was given up, so that they can go on"));
}

}  // namespace

GroupEnding::GroupEnding(Executor* engine, RunEnding run_ending, Clock* clock,
                         JobListener* listener, Hooks hooks)
    : engine_(engine),
      run_ending_(std::move(run_ending)),
      clock_(clock),
      listener_(listener),
      hooks_(std::move(hooks)) {}

GroupEnding::Records GroupEnding::Share(const JobGroup& group) {
  Records records;
  for (JobRecord* member : group.members_) records.push_back(member->shared_from_this());
  return records;
}

std::vector<std::string> GroupEnding::IdsOf(const Records& records) {
  std::vector<std::string> ids;
  for (const auto& record : records) ids.push_back(record->options.id);
  return ids;
}

void GroupEnding::OnStopped(JobRecord* record) {
  JobGroup* const group = record->group.get();
  if (group->phase_ == Phase::kAborting) return AbortNext(group);
  if (record->cancel_wanted || !record->error.ok()) return Abort(group, record);
  record->user_paused = false;
  record->LeavePause();
  record->Move(JobStatus::kWaiting);
  const bool all_wait =
      std::all_of(group->members_.begin(), group->members_.end(),
                  [](const JobRecord* member) { return member->status == JobStatus::kWaiting; });
  if (all_wait) GoPending(group);
}

absl::Status GroupEnding::Cancel(JobRecord* record) {
  JobGroup* const group = record->group.get();
  if (group->phase_ == Phase::kCommitting) {
    return Error(Reason::kJobState,
                 absl::StrCat("job '", record->options.id,
                              "' is being finalized and cannot be cancelled any more"),
                 {{"job", record->options.id}, {"verb", NameOf(JobVerb::kCancel)}});
  }
  const bool ends_anyway = group->phase_ == Phase::kAborting || !record->error.ok();
  if (ends_anyway || record->cancel_wanted) return absl::OkStatus();
  record->cancel_wanted = true;
  record->TellCancel();
  if (!record->started) return absl::OkStatus();  // Start will see it.
  // While Prepare is under way, OnPrepared will see it.
  if (group->phase_ == Phase::kPreparing) return absl::OkStatus();
  if (record->stopped) {
    Abort(group, record);
  } else {
    hooks_.stop(record);
  }
  return absl::OkStatus();
}

absl::Status GroupEnding::Finalize(JobRecord* record) {
  if (record->group->phase_ != Phase::kPending) {
    return Error(Reason::kJobState,
                 absl::StrCat("job '", record->options.id, "' is being ended already"),
                 {{"job", record->options.id}, {"verb", NameOf(JobVerb::kFinalize)}});
  }
  Prepare(record->group.get());
  return absl::OkStatus();
}

void GroupEnding::GoPending(JobGroup* group) {
  group->phase_ = Phase::kPending;
  bool manual = false;
  for (const auto& member : Share(*group)) {
    member->Move(JobStatus::kPending);
    if (member->options.auto_finalize) continue;
    manual = true;
    if (listener_ != nullptr && member->is_block_job()) listener_->OnPending(member->Snapshot());
  }
  if (!manual) Prepare(group);
}

void GroupEnding::Prepare(JobGroup* group) {
  group->phase_ = Phase::kPreparing;
  const Records members = Share(*group);
  run_ending_(IdsOf(members), [this, group, members] {
    auto holds = std::make_shared<GuestHolds>();
    size_t failed = 0;
    absl::Status status = HoldAndPrepare(members, holds, &failed);
    if (!status.ok()) holds->Release();
    engine_->Post([this, group, members, failed, status, holds] {
      OnPrepared(group, members, failed, status, holds);
    });
  });
}

absl::Status GroupEnding::HoldAndPrepare(const Records& members,
                                         const std::shared_ptr<GuestHolds>& holds, size_t* failed) {
  const absl::Duration begin = clock_->Elapsed();
  std::vector<size_t> with_last_step;
  for (size_t i = 0; i < members.size(); ++i) {
    *failed = i;
    const absl::Duration left = kGuestHoldMax - (clock_->Elapsed() - begin);
    ASSIGN_OR_RETURN(std::unique_ptr<GuestHold> hold,
                     members[i]->job->HoldGuests(std::max(left, absl::ZeroDuration())));
    if (hold == nullptr) continue;
    if (!holds->Add(std::move(hold))) return HeldTooLong();
    if (with_last_step.empty()) LimitHold(members, holds);
    with_last_step.push_back(i);
  }
  for (const size_t i : with_last_step) {
    *failed = i;
    RETURN_IF_ERROR(members[i]->job->LastStep());
  }
  for (size_t i = 0; i < members.size(); ++i) {
    *failed = i;
    // Who prepares may count on it that the guests are held; it may still come to this meanwhile.
    if (holds->is_over()) return HeldTooLong();
    const absl::Status prepared = members[i]->job->Prepare();
    if (!prepared.ok()) return holds->is_over() ? HeldTooLong() : prepared;
  }
  return absl::OkStatus();
}

// Whatever the last step does, or waits for.
void GroupEnding::LimitHold(const Records& members, const std::shared_ptr<GuestHolds>& holds) {
  engine_->PostAfter(kGuestHoldMax, [weak = std::weak_ptr<GuestHolds>(holds),
                                     group = std::vector<std::weak_ptr<JobRecord>>(members.begin(),
                                                                                   members.end())] {
    const std::shared_ptr<GuestHolds> held = weak.lock();
    if (held == nullptr || !held->Expire()) return;
    for (const auto& member : group) {
      const std::shared_ptr<JobRecord> record = member.lock();
      if (record != nullptr && record->job != nullptr) record->TellCancel();
    }
  });
}

void GroupEnding::OnPrepared(JobGroup* group, const Records& members, size_t failed,
                             absl::Status status, const std::shared_ptr<GuestHolds>& holds) {
  for (const auto& member : members) {
    if (!member->cancel_wanted) continue;
    holds->Release();
    return Abort(group, member.get());
  }
  if (!status.ok()) return Fail(group, members[failed].get(), std::move(status));
  Commit(group, holds);
}

void GroupEnding::Fail(JobGroup* group, JobRecord* member, absl::Status status) {
  member->error = std::move(status);
  member->TellCancel();
  Abort(group, member);
}

void GroupEnding::Commit(JobGroup* group, std::shared_ptr<GuestHolds> holds) {
  group->phase_ = Phase::kCommitting;
  Records members = Share(*group);
  std::vector<std::unique_ptr<Job>> jobs;
  for (const auto& member : members) jobs.push_back(TakeJob(member.get()));
  const std::vector<std::string> ids = IdsOf(members);
  run_ending_(ids, [this, members = std::move(members), jobs = std::move(jobs),
                    holds = std::move(holds)]() mutable {
    // Only now, and not when this began to wait for its turn: somebody whose turn came before may
    // wait for guests, who are held no longer than they may be.
    if (!holds->BeginCommit()) return TakeBack(std::move(members), std::move(jobs));
    for (const auto& job : jobs) job->Commit();
    holds->Release();
    for (const auto& job : jobs) job->Clean();
    jobs.clear();
    engine_->Post([this, members = std::move(members)] {
      for (const auto& member : members) Conclude(member.get());
    });
  });
}

void GroupEnding::TakeBack(Records members, std::vector<std::unique_ptr<Job>> jobs) {
  engine_->Post([this, members = std::move(members), jobs = std::move(jobs)]() mutable {
    for (size_t i = 0; i < jobs.size(); ++i) members[i]->job = std::move(jobs[i]);
    Fail(members[0]->group.get(), members[0].get(), HeldTooLong());
  });
}

void GroupEnding::Abort(JobGroup* group, JobRecord* first) {
  group->phase_ = Phase::kAborting;
  auto& members = group->members_;
  const auto at = std::find(members.begin(), members.end(), first);
  CHECK(at != members.end());
  std::rotate(members.begin(), at, at + 1);
  const Records shared = Share(*group);
  for (const auto& member : shared) {
    if (member.get() == first) continue;
    member->cancel_wanted = true;
    member->TellCancel();
  }
  AbortNext(group);
  for (const auto& member : shared) {
    if (!member->stopped) hooks_.stop(member.get());
  }
}

void GroupEnding::AbortNext(JobGroup* group) {
  if (group->members_.empty()) return;
  const std::shared_ptr<JobRecord> record = group->members_.front()->shared_from_this();
  // One that has not been started yet stops when it is.
  if (record->ending || !record->stopped) return;
  record->ending = true;
  // Cancelled jobs have no error of their own: whatever they met on the way no longer matters.
  if (record->cancel_wanted) record->error = absl::CancelledError("Operation canceled");
  record->LeavePause();
  record->Move(JobStatus::kAborting);
  run_ending_({record->options.id}, [this, record, job = TakeJob(record.get())]() mutable {
    job->Abort();
    job->Clean();
    job.reset();
    engine_->Post([this, record] {
      // Kept here: the last member takes the group with it.
      const std::shared_ptr<JobGroup> group = record->group;
      Conclude(record.get());
      AbortNext(group.get());
    });
  });
}

std::unique_ptr<Job> GroupEnding::Leave(JobRecord* record) {
  auto& members = record->group->members_;
  members.erase(std::find(members.begin(), members.end(), record));
  if (record->group->phase_ == Phase::kAborting) AbortNext(record->group.get());
  return TakeJob(record);
}

std::unique_ptr<Job> GroupEnding::TakeJob(JobRecord* record) {
  record->final_progress = record->job->progress();
  return std::move(record->job);
}

void GroupEnding::Conclude(JobRecord* record) {
  auto& members = record->group->members_;
  members.erase(std::find(members.begin(), members.end(), record));
  if (listener_ != nullptr && record->is_block_job()) {
    if (record->cancel_wanted) {
      listener_->OnCancelled(record->Snapshot());
    } else {
      listener_->OnCompleted(record->Snapshot());
    }
  }
  record->concluded_time = clock_->Now();
  record->Move(JobStatus::kConcluded);
  hooks_.concluded(record);
}

}  // namespace tidemark::job
