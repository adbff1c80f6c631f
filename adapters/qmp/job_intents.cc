// From a request that starts jobs to the jobs: what was asked for is stored before it is sent, so
// that a job which begins is never unknown to the next process.
#include <algorithm>

#include "adapters/qmp/job_keeper.h"
#include "engine/base/status_macros.h"

namespace tidemark::qmp {

namespace v1 = ::tidemark::block::v1;

// It begins behind what the log holds now: by that Restore tells it from earlier ones of its id.
v1::Job JobKeeper::Asked(Job job) const {
  job.set_start_sequence(log_.position());
  return job;
}

JobKeeper::Intent JobKeeper::NewIntent() {
  MutexLock lock(&mutex_);
  return next_intent_++;
}

absl::Status JobKeeper::Store(Intent intent, const std::vector<Job>& jobs) {
  if (store_ == nullptr) return absl::OkStatus();
  MutexLock store_lock(&store_mutex_);
  for (const Job& asked : jobs) {
    const Job job = Asked(asked);
    {
      MutexLock lock(&mutex_);
      if (records_.contains(job.id())) continue;
      storing_[job.id()] = {intent, job};
    }
    RETURN_IF_ERROR(store_->SaveJob(job));
  }
  return absl::OkStatus();
}

bool JobKeeper::IsStored(Intent intent, const std::vector<Job>& jobs) const {
  MutexLock lock(&mutex_);
  return store_ == nullptr || std::all_of(jobs.begin(), jobs.end(), [&](const Job& job) {
           const auto storing = storing_.find(job.id());
           return records_.contains(job.id()) ||
                  (storing != storing_.end() && storing->second.first == intent);
         });
}

void JobKeeper::Discard(Intent intent, const std::vector<Job>& jobs) {
  {
    MutexLock lock(&mutex_);
    for (const Job& job : jobs) EraseStoring(intent, job.id());
  }
  for (const Job& job : jobs) DeleteStored(job.id());
}

void JobKeeper::Intend(Intent intent, const std::vector<Job>& jobs) {
  MutexLock lock(&mutex_);
  for (const Job& job : jobs) {
    intended_[job.id()].emplace_back(intent, Asked(job));
    EraseStoring(intent, job.id());
  }
}

void JobKeeper::EraseStoring(Intent intent, const std::string& id) {
  const auto found = storing_.find(id);
  if (found != storing_.end() && found->second.first == intent) storing_.erase(found);
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
          GiveToOthers(&record->second);
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
        needed = storing->second.second;
      } else if (intended != keeper->intended_.end()) {
        needed = intended->second.front().second;
      } else if (record != keeper->records_.end() && record->second.is_ours) {
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

}  // namespace tidemark::qmp
