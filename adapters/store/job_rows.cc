#include "adapters/store/job_rows.h"

#include "absl/strings/str_cat.h"
#include "adapters/store/checksum.h"
#include "engine/backend/event_subject.h"
#include "engine/base/status_macros.h"

namespace tidemark::store {
namespace {

namespace v1 = ::tidemark::block::v1;
using backend::JobView;

int64_t Sum(uint64_t start, uint64_t end, uint64_t coming, bool aborting, absl::string_view body) {
  return Checksum({start, end, coming, aborting ? uint64_t{1} : uint64_t{0}}, body);
}

bool HasGone(const JobView& view) { return view.job().status() == v1::JOB_STATUS_NULL; }

}  // namespace

const char JobRows::kSchema[] =
    "CREATE TABLE job_history (start INTEGER PRIMARY KEY, end INTEGER NOT NULL,"
    "                          coming INTEGER NOT NULL, aborting INTEGER NOT NULL,"
    "                          checksum INTEGER NOT NULL, body BLOB NOT NULL);";
const char JobRows::kLook[] =
    "SELECT start, end, coming, aborting, checksum, body FROM job_history";

absl::StatusOr<std::vector<JobView>> JobRows::Load() {
  ASSIGN_OR_RETURN(Statement select, database_.Prepare(absl::StrCat(kLook, " ORDER BY start")));
  std::vector<JobView> views;
  for (;;) {
    ASSIGN_OR_RETURN(const bool row, select.Step());
    if (!row) break;
    const uint64_t start = static_cast<uint64_t>(select.Integer(0));
    const uint64_t end = static_cast<uint64_t>(select.Integer(1));
    const uint64_t coming = static_cast<uint64_t>(select.Integer(2));
    const bool aborting = select.Integer(3) != 0;
    const absl::string_view body = select.Bytes(5);
    v1::Job job;
    if (select.Integer(4) != Sum(start, end, coming, aborting, body) ||
        !job.ParseFromArray(body.data(), static_cast<int>(body.size())) ||
        job.start_sequence() != start) {
      continue;
    }
    views.emplace_back(std::move(job), static_cast<v1::JobOutcome>(coming), aborting, end);
  }
  for (const JobView& view : views) {
    // A later one of the id takes the place of an earlier.
    const Key key(view.job().instance(), view.job().id());
    open_.erase(key);
    if (!HasGone(view)) open_.emplace(key, view);
    NoteEnd(view);
  }
  noted_.clear();
  return views;
}

absl::Status JobRows::Apply(const std::vector<backend::EventPtr>& events) {
  for (const backend::EventPtr& event : events) RETURN_IF_ERROR(ApplyOne(*event));
  RETURN_IF_ERROR(WriteChanges());
  return DropOldest();
}

absl::Status JobRows::ApplyOne(const backend::Event& event) {
  const Key key(event.instance(), std::string(backend::JobIdOf(event)));
  if (key.second.empty()) return absl::OkStatus();
  auto change = changed_.find(key);
  if (change == changed_.end()) {
    const auto open = open_.find(key);
    if (open != open_.end()) {
      change = changed_.emplace(key, Change{open->second, false}).first;
    }
  }
  // Figures alone are told anew soon; what they are at the end is written with it.
  const bool is_dirty = !event.has_job_progress();
  if (change == changed_.end()) {
    changed_.emplace(key, Change{JobView(event), is_dirty});
    return absl::OkStatus();
  }
  JobView& view = change->second.view;
  if (view.IsOfAnother(event)) {
    view.Supersede(event);
    NoteEnd(view);
    RETURN_IF_ERROR(Insert(view));
    change->second = {JobView(event), is_dirty};
    return absl::OkStatus();
  }
  view.Apply(event);
  if (is_dirty) change->second.is_dirty = true;
  return absl::OkStatus();
}

absl::Status JobRows::WriteChanges() {
  for (auto& [key, change] : changed_) {
    if (!change.is_dirty) continue;
    RETURN_IF_ERROR(Insert(change.view));
    NoteEnd(change.view);
  }
  return absl::OkStatus();
}

absl::Status JobRows::Insert(const JobView& view) {
  v1::Job job = view.job();
  job.clear_unsaved();
  const std::string body = job.SerializeAsString();
  const uint64_t coming = static_cast<uint64_t>(view.coming_outcome());
  ASSIGN_OR_RETURN(Statement insert, database_.Prepare("INSERT OR REPLACE INTO job_history VALUES "
                                                       "(?, ?, ?, ?, ?, ?)"));
  return insert.Bind(static_cast<int64_t>(job.start_sequence()))
      .Bind(static_cast<int64_t>(view.end_sequence()))
      .Bind(static_cast<int64_t>(coming))
      .Bind(int64_t{view.aborting() ? 1 : 0})
      .Bind(Sum(job.start_sequence(), view.end_sequence(), coming, view.aborting(), body))
      .BindBlob(body)
      .Run();
}

void JobRows::NoteEnd(const JobView& view) {
  const uint64_t end = view.end_sequence();
  if (end == 0 || !starts_of_ended_.emplace(end, view.job().start_sequence()).second) return;
  ended_.Add(view.job().instance(), end, 0);
  noted_.push_back({view.job().instance(), end, 0});
}

absl::Status JobRows::DropOldest() {
  while (ended_.is_too_much()) {
    const backend::FairShares::Item item = ended_.TakeOldest();
    const auto start = starts_of_ended_.find(item.number);
    dropped_.emplace_back(item, start->second);
    ASSIGN_OR_RETURN(Statement drop, database_.Prepare("DELETE FROM job_history WHERE start = ?"));
    RETURN_IF_ERROR(drop.Bind(static_cast<int64_t>(start->second)).Run());
    starts_of_ended_.erase(start);
  }
  return absl::OkStatus();
}

void JobRows::Keep() {
  for (auto& [key, change] : changed_) {
    if (HasGone(change.view)) {
      open_.erase(key);
    } else {
      open_.insert_or_assign(key, std::move(change.view));
    }
  }
  changed_.clear();
  noted_.clear();
  dropped_.clear();
}

void JobRows::Undo() {
  for (const auto& [item, start] : dropped_) {
    ended_.Add(item.owner, item.number, item.bytes);
    starts_of_ended_.emplace(item.number, start);
  }
  for (const backend::FairShares::Item& item : noted_) {
    ended_.Remove(item.owner, item.number);
    starts_of_ended_.erase(item.number);
  }
  changed_.clear();
  noted_.clear();
  dropped_.clear();
}

}  // namespace tidemark::store
