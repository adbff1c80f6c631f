#include "service/rpc/job_follower.h"

#include <iterator>
#include <utility>

#include "engine/backend/event_subject.h"
#include "engine/base/status_macros.h"
#include "service/rpc/limits.h"

namespace tidemark::rpc {

absl::StatusOr<JobFollower> JobFollower::Begin(backend::EventLog& log, backend::JobBook& jobs,
                                               absl::string_view instance, absl::string_view id) {
  ASSIGN_OR_RETURN(backend::JobBook::Entry entry, jobs.Find(instance, id));
  return JobFollower(log, jobs, std::move(entry));
}

absl::StatusOr<JobFollower::Change> JobFollower::Advance() {
  if (read_.empty()) {
    auto events = log_->Read(entry_.position, kEventsPerStepMax, {job().instance()});
    if (!events.ok()) {
      ASSIGN_OR_RETURN(backend::JobBook::Entry entry, jobs_->Find(job().instance(), job().id()));
      // Another job has the id now; ours is over and its end was missed.
      if (entry.view.job().start_sequence() != job().start_sequence()) return events.status();
      entry_ = std::move(entry);
      return Change::kState;
    }
    read_.assign(std::make_move_iterator(events->begin()), std::make_move_iterator(events->end()));
  }
  const bool had_any = !read_.empty();
  bool figures_changed = false;
  while (!read_.empty()) {
    const backend::EventPtr event = std::move(read_.front());
    read_.pop_front();
    entry_.position = event->sequence();
    if (event->instance() != job().instance() || backend::JobIdOf(*event) != job().id()) continue;
    if (entry_.view.IsOfAnother(*event)) {
      entry_.view.Supersede(*event);
      return Change::kState;
    }
    entry_.view.Apply(*event);
    if (event->has_job_status_change()) return Change::kState;
    figures_changed = true;
  }
  if (figures_changed) return Change::kFigures;
  return had_any ? Change::kPause : Change::kNone;
}

}  // namespace tidemark::rpc
