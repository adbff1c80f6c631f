#include "engine/job/group_ending.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/error.h"

namespace tidemark::job {

GroupEnding::GroupEnding(Executor* engine, Executor* graph_commands, Clock* clock,
                         JobListener* listener, Hooks hooks)
    : engine_(engine),
      graph_commands_(graph_commands),
      clock_(clock),
      listener_(listener),
      hooks_(std::move(hooks)) {}

GroupEnding::Records GroupEnding::Share(const JobGroup& group) {
  Records records;
  for (JobRecord* member : group.members_) records.push_back(member->shared_from_this());
  return records;
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
  graph_commands_->Post([this, group, members = Share(*group)] {
    absl::Status status;
    size_t failed = 0;
    for (size_t i = 0; i < members.size() && status.ok(); ++i) {
      status = members[i]->job->Prepare();
      failed = i;
    }
    engine_->Post(
        [this, group, members, failed, status] { OnPrepared(group, members, failed, status); });
  });
}

void GroupEnding::OnPrepared(JobGroup* group, const Records& members, size_t failed,
                             absl::Status status) {
  for (const auto& member : members) {
    if (member->cancel_wanted) return Abort(group, member.get());
  }
  if (!status.ok()) {
    members[failed]->error = std::move(status);
    members[failed]->TellCancel();
    return Abort(group, members[failed].get());
  }
  Commit(group);
}

void GroupEnding::Commit(JobGroup* group) {
  group->phase_ = Phase::kCommitting;
  Records members = Share(*group);
  std::vector<std::unique_ptr<Job>> jobs;
  for (const auto& member : members) jobs.push_back(TakeJob(member.get()));
  graph_commands_->Post([this, members = std::move(members), jobs = std::move(jobs)]() mutable {
    for (const auto& job : jobs) job->Commit();
    for (const auto& job : jobs) job->Clean();
    jobs.clear();
    engine_->Post([this, members = std::move(members)] {
      for (const auto& member : members) Conclude(member.get());
    });
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
  graph_commands_->Post([this, record, job = TakeJob(record.get())]() mutable {
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
