// Each row names the sequence of the one before it of the same instance, so that a missing row
// shows; and has a checksum. Of an instance that lost its oldest, the first row names the last of
// these. Up to `dropped` of the table `log`, whatever the instance, events may be missing.
#include "adapters/store/event_rows.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "adapters/store/checksum.h"
#include "engine/base/status_macros.h"

namespace tidemark::store {
namespace {

using backend::EventPtr;

// Progress is told anew, but the last one of a job tells how it ended.
bool IsKept(const backend::Event& event) {
  return !event.has_job_progress() || !event.job_progress().error().empty() ||
         event.job_progress().status() == ::tidemark::block::v1::JOB_STATUS_CONCLUDED;
}

void Forget(const std::string& instance, std::vector<EventPtr>* events) {
  events->erase(
      std::remove_if(events->begin(), events->end(),
                     [&instance](const EventPtr& event) { return event->instance() == instance; }),
      events->end());
}

}  // namespace

const char EventRows::kSchema[] =
    "CREATE TABLE events (sequence INTEGER PRIMARY KEY, previous INTEGER NOT NULL,"
    "                     checksum INTEGER NOT NULL, body BLOB NOT NULL);";
const char EventRows::kLook[] =
    "SELECT events.sequence, previous, checksum, body, log.id, log.dropped, floor.sequence "
    "FROM events, log, floor";

absl::StatusOr<backend::EventTail::Saved> EventRows::Load() {
  backend::EventTail::Saved saved;
  ASSIGN_OR_RETURN(const int64_t dropped, database_.Ask("SELECT dropped FROM log"));
  saved.dropped = static_cast<uint64_t>(dropped);
  newest_ = saved.dropped;
  ASSIGN_OR_RETURN(
      Statement select,
      database_.Prepare("SELECT sequence, previous, checksum, body FROM events ORDER BY sequence"));
  for (;;) {
    ASSIGN_OR_RETURN(const bool row, select.Step());
    if (!row) return saved;
    const uint64_t sequence = static_cast<uint64_t>(select.Integer(0));
    const uint64_t previous = static_cast<uint64_t>(select.Integer(1));
    const absl::string_view body = select.Bytes(3);
    auto event = std::make_shared<backend::Event>();
    const bool whole = select.Integer(2) == Checksum({sequence, previous}, body) &&
                       event->ParseFromArray(body.data(), static_cast<int>(body.size())) &&
                       event->sequence() == sequence;
    newest_ = std::max(newest_, sequence);
    // Whose it was is not known.
    shares_.Add(event->instance(), sequence, body.size());
    if (!whole) {
      saved.events.clear();
      saved.dropped = std::max(saved.dropped, sequence);
      continue;
    }
    const auto last = last_of_.find(event->instance());
    if (previous != (last == last_of_.end() ? 0 : last->second)) {
      Forget(event->instance(), &saved.events);
      saved.dropped_of[event->instance()] = previous;
    }
    last_of_[event->instance()] = sequence;
    saved.events.push_back(std::move(event));
  }
}

absl::Status EventRows::Save(const std::vector<EventPtr>& events, bool is_behind_gap) {
  before_.newest = newest_;
  before_.floored = floored_;
  if (is_behind_gap) RETURN_IF_ERROR(AddGap(events.front()->sequence() - 1));
  RETURN_IF_ERROR(Insert(events));
  RETURN_IF_ERROR(RaiseFloor(events.back()->sequence()));
  RETURN_IF_ERROR(DropOldest());
  return ForgetInstances();
}

absl::Status EventRows::Insert(const std::vector<EventPtr>& events) {
  ASSIGN_OR_RETURN(Statement insert, database_.Prepare("INSERT INTO events VALUES (?, ?, ?, ?)"));
  for (const EventPtr& event : events) {
    if (!IsKept(*event)) continue;
    const std::string body = event->SerializeAsString();
    uint64_t& last = last_of_[event->instance()];
    before_.last_of.emplace(event->instance(), last);
    RETURN_IF_ERROR(insert.Bind(static_cast<int64_t>(event->sequence()))
                        .Bind(static_cast<int64_t>(last))
                        .Bind(Checksum({event->sequence(), last}, body))
                        .BindBlob(body)
                        .Run());
    last = newest_ = event->sequence();
    shares_.Add(event->instance(), event->sequence(), body.size());
    before_.added.push_back({event->instance(), event->sequence(), body.size()});
  }
  return absl::OkStatus();
}

absl::Status EventRows::DropOldest() {
  if (!shares_.is_too_much()) return absl::OkStatus();
  ASSIGN_OR_RETURN(Statement drop, database_.Prepare("DELETE FROM events WHERE sequence = ?"));
  while (shares_.is_too_much()) {
    before_.dropped.push_back(shares_.TakeOldest());
    RETURN_IF_ERROR(drop.Bind(static_cast<int64_t>(before_.dropped.back().number)).Run());
  }
  return absl::OkStatus();
}

// Names of instances come and go: of one that has no row any more it is said of all that something
// is missing.
absl::Status EventRows::ForgetInstances() {
  if (last_of_.size() <= 2 * backend::kDroppedInstancesMax) return absl::OkStatus();
  uint64_t dropped = 0;
  for (auto last = last_of_.begin(); last != last_of_.end();) {
    if (shares_.newest(last->first) != 0) {
      ++last;
      continue;
    }
    dropped = std::max(dropped, last->second);
    before_.last_of.emplace(last->first, last->second);
    last = last_of_.erase(last);
  }
  return RaiseDropped(dropped);
}

absl::Status EventRows::RaiseDropped(uint64_t sequence) {
  ASSIGN_OR_RETURN(Statement raise, database_.Prepare("UPDATE log SET dropped = max(dropped, ?)"));
  return raise.Bind(static_cast<int64_t>(sequence)).Run();
}

void EventRows::Keep() { before_ = Before(); }

void EventRows::Undo() {
  for (const Item& item : before_.dropped) shares_.Add(item.owner, item.number, item.bytes);
  for (const Item& item : before_.added) shares_.Remove(item.owner, item.number);
  for (const auto& [instance, last] : before_.last_of) last_of_[instance] = last;
  newest_ = before_.newest;
  floored_ = before_.floored;
  before_ = Before();
}

// Where nothing is saved for long but progress is told, the next process must still know how far
// the sequence went.
absl::Status EventRows::RaiseFloor(uint64_t told) {
  const uint64_t known = std::max(floored_, newest_);
  if (told < known + kRestartGap / 4) return absl::OkStatus();
  ASSIGN_OR_RETURN(Statement raise,
                   database_.Prepare("UPDATE floor SET sequence = max(sequence, ?)"));
  RETURN_IF_ERROR(raise.Bind(static_cast<int64_t>(told + kRestartGap)).Run());
  floored_ = told;
  return absl::OkStatus();
}

absl::Status EventRows::AddGap(uint64_t sequence) {
  RETURN_IF_ERROR(database_.Run("DELETE FROM events"));
  RETURN_IF_ERROR(RaiseDropped(sequence));
  while (shares_.count() > 0) before_.dropped.push_back(shares_.TakeOldest());
  for (const auto& [instance, last] : last_of_) before_.last_of.emplace(instance, last);
  last_of_.clear();
  newest_ = std::max(newest_, sequence);
  return absl::OkStatus();
}

}  // namespace tidemark::store
