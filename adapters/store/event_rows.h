// The newest events in a database: bounded, and never with a hole that looks like none. One thread
// at a time.
#ifndef ADAPTERS_STORE_EVENT_ROWS_H_
#define ADAPTERS_STORE_EVENT_ROWS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "adapters/store/database.h"
#include "adapters/store/limits.h"
#include "engine/backend/event_log.h"
#include "engine/backend/fair_shares.h"

namespace tidemark::store {

struct EventBounds {
  size_t events_max = kEventsSavedMax;
  size_t bytes_max = kEventBytesSavedMax;
  // Results of jobs.
  size_t ended_jobs_max = backend::kEndedJobsMax;
};

class EventRows {
 public:
  // Makes its table.
  static const char kSchema[];
  // Fails unless the tables are as they are used.
  static const char kLook[];

  // `database` must outlive this.
  EventRows(Database& database, EventBounds bounds)
      : database_(database), shares_(bounds.events_max, bounds.bytes_max) {}

  // What is saved. A damaged or missing row is a gap, too.
  absl::StatusOr<backend::EventTail::Saved> Load();

  // For a transaction: adds events, JOB_PROGRESS left out but for a job's last, and drops the
  // oldest beyond the bounds (fair_shares.h). `is_behind_gap`: events are missing before them. It
  // counts only when Keep follows; otherwise Undo must.
  absl::Status Save(const std::vector<backend::EventPtr>& events, bool is_behind_gap);
  void Keep();
  void Undo();

  // The newest sequence saved, damaged or not; 0 if there is none.
  uint64_t newest() const { return newest_; }

  // Events up to `sequence` are missing, all of them. For a transaction, and for good.
  absl::Status AddGap(uint64_t sequence);

 private:
  using Item = backend::FairShares::Item;

  absl::Status Insert(const std::vector<backend::EventPtr>& events);
  absl::Status DropOldest();
  absl::Status ForgetInstances();
  absl::Status RaiseDropped(uint64_t sequence);
  absl::Status RaiseFloor(uint64_t told);

  Database& database_;
  backend::FairShares shares_;
  // Of each instance the newest sequence that was ever saved, as far as it is known.
  std::map<std::string, uint64_t> last_of_;
  uint64_t newest_ = 0;
  // The sequence told when the floor was raised last.
  uint64_t floored_ = 0;

  // What a Save did that may have to be undone.
  struct Before {
    std::vector<Item> added;
    std::vector<Item> dropped;
    std::map<std::string, uint64_t> last_of;
    uint64_t newest = 0;
    uint64_t floored = 0;
  };
  Before before_;
};

}  // namespace tidemark::store

#endif  // ADAPTERS_STORE_EVENT_ROWS_H_
