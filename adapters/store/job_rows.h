// What the saved events tell of jobs: those that live, and a bounded history of those that ended,
// each in a row of its own. So results stay known when the events that told them are dropped. One
// thread at a time.
#ifndef ADAPTERS_STORE_JOB_ROWS_H_
#define ADAPTERS_STORE_JOB_ROWS_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "adapters/store/database.h"
#include "engine/backend/event_log.h"
#include "engine/backend/fair_shares.h"
#include "engine/backend/job_view.h"

namespace tidemark::store {

class JobRows {
 public:
  // Makes its table.
  static const char kSchema[];
  // Fails unless the table is as it is used.
  static const char kLook[];

  // `database` must outlive this. Of ended jobs `ended_max` are kept: see fair_shares.h.
  JobRows(Database& database, size_t ended_max)
      : database_(database), ended_(ended_max, ended_max) {}

  // What is saved, by rising start; damaged rows are left out. Once, before anything else.
  absl::StatusOr<std::vector<backend::JobView>> Load();

  // For a transaction: writes what `events`, which follow those before, tell. It counts only when
  // Keep follows; otherwise Undo must.
  absl::Status Apply(const std::vector<backend::EventPtr>& events);
  void Keep();
  void Undo();

  // For a transaction: writes one row as it was read elsewhere.
  absl::Status Insert(const backend::JobView& view);

 private:
  using Key = std::pair<std::string, std::string>;  // Instance, job.
  struct Change {
    backend::JobView view;
    bool is_dirty;
  };

  absl::Status ApplyOne(const backend::Event& event);
  absl::Status WriteChanges();
  // Counts the job among those that ended, if it has.
  void NoteEnd(const backend::JobView& view);
  absl::Status DropOldest();

  Database& database_;
  std::map<Key, backend::JobView> open_;  // The newest of each id, unless it has gone (NULL).
  backend::FairShares ended_;             // By the sequences of their ends.
  std::map<uint64_t, uint64_t> starts_of_ended_;

  // Since the last Keep or Undo.
  std::map<Key, Change> changed_;
  std::vector<backend::FairShares::Item> noted_;
  std::vector<std::pair<backend::FairShares::Item, uint64_t>> dropped_;
};

}  // namespace tidemark::store

#endif  // ADAPTERS_STORE_JOB_ROWS_H_
