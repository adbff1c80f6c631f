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

  // What is saved. A damaged or missing row is a gap, too.
  absl::StatusOr<backend::EventTail::Saved> Load();

  // Adds events, JOB_PROGRESS left out but for a job's last, and drops the oldest beyond the
  // bounds. `is_behind_gap`: events are missing before them.
  absl::Status Save(const std::vector<backend::EventPtr>& events, bool is_behind_gap);

  // The newest sequence saved, damaged or not; 0 if there is none.
  uint64_t newest() const { return rows_.empty() ? 0 : rows_.back().sequence; }

  // Events up to `sequence` are missing. For a transaction.
  absl::Status AddGap(uint64_t sequence);

 private:
  // What is known of a saved row.
  struct Row {
    uint64_t sequence;
    size_t bytes;
  };

  absl::Status Insert(const std::vector<backend::EventPtr>& events, bool is_behind_gap,
                      std::vector<Row>* added);
  absl::Status DropOldest(const std::vector<Row>& added, size_t* count);
  absl::Status RaiseFloor(uint64_t told);

  Database& database_;
  const EventBounds bounds_;
  std::deque<Row> rows_;
  size_t bytes_ = 0;
  // The sequence told when the floor was raised last.
  uint64_t floored_ = 0;
};

}  // namespace tidemark::store

#endif  // ADAPTERS_STORE_EVENT_ROWS_H_
