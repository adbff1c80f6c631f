// The newest events in a database: bounded, and never with a hole that looks like none. One thread
// at a time.
#ifndef ADAPTERS_STORE_EVENT_ROWS_H_
#define ADAPTERS_STORE_EVENT_ROWS_H_

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "adapters/store/database.h"
#include "adapters/store/limits.h"
#include "engine/backend/event_log.h"

namespace tidemark::store {

struct EventBounds {
  size_t events_max = kEventsSavedMax;
  size_t bytes_max = kEventBytesSavedMax;
};

class EventRows {
 public:
  // Makes its table; part of version 1 of the schema.
  static const char kSchema[];

  // `database` must outlive this.
  EventRows(Database& database, EventBounds bounds) : database_(database), bounds_(bounds) {}

  // What is saved, by rising sequence. What comes before a damaged or missing row is left out:
  // those before it are not to be shown as if nothing were missing.
  absl::StatusOr<std::vector<backend::EventPtr>> Load();

  // Adds events, JOB_PROGRESS left out but for a job's last, and drops the oldest beyond the
  // bounds; with `anew`, all that were there before.
  absl::Status Save(const std::vector<backend::EventPtr>& events, bool anew);

  // The newest sequence saved, damaged or not; 0 if there is none.
  uint64_t newest() const { return rows_.empty() ? 0 : rows_.back().sequence; }

  // Drops all. For a transaction.
  absl::Status Clear();

 private:
  absl::Status RaiseFloor(uint64_t told, bool at_once);

  // What is known of a saved row.
  struct Row {
    uint64_t sequence;
    size_t bytes;
  };

  Database& database_;
  const EventBounds bounds_;
  std::deque<Row> rows_;
  size_t bytes_ = 0;
  // The sequence told when the floor was raised last.
  uint64_t floored_ = 0;
};

}  // namespace tidemark::store

#endif  // ADAPTERS_STORE_EVENT_ROWS_H_
