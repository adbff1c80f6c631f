// Each row names the sequence of the one before it, so that a missing row shows; and has a checksum
// over all of it, since SQLite has none.
#include "adapters/store/event_rows.h"

#include <zlib.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "engine/base/endian.h"
#include "engine/base/status_macros.h"

namespace tidemark::store {
namespace {

using backend::EventPtr;

int64_t Checksum(uint64_t sequence, uint64_t previous, absl::string_view body) {
  char numbers[16];
  StoreBigEndian(numbers, sequence);
  StoreBigEndian(numbers + 8, previous);
  uLong sum = crc32(0, reinterpret_cast<const Bytef*>(numbers), sizeof(numbers));
  sum = crc32(sum, reinterpret_cast<const Bytef*>(body.data()), static_cast<uInt>(body.size()));
  return static_cast<int64_t>(sum);
}

// Progress is told anew, but the last one of a job tells how it ended.
bool IsKept(const backend::Event& event) {
  return !event.has_job_progress() || !event.job_progress().error().empty() ||
         event.job_progress().status() == ::tidemark::block::v1::JOB_STATUS_CONCLUDED;
}

}  // namespace

const char EventRows::kSchema[] =
    "CREATE TABLE events (sequence INTEGER PRIMARY KEY, previous INTEGER NOT NULL,"
    "                     checksum INTEGER NOT NULL, body BLOB NOT NULL);";

absl::StatusOr<std::vector<EventPtr>> EventRows::Load() {
  rows_.clear();
  bytes_ = 0;
  std::vector<EventPtr> events;
  ASSIGN_OR_RETURN(
      Statement select,
      database_.Prepare("SELECT sequence, previous, checksum, body FROM events ORDER BY sequence"));
  uint64_t last = 0;
  for (;;) {
    ASSIGN_OR_RETURN(const bool row, select.Step());
    if (!row) return events;
    const uint64_t sequence = static_cast<uint64_t>(select.Integer(0));
    const uint64_t previous = static_cast<uint64_t>(select.Integer(1));
    const absl::string_view body = select.Bytes(3);
    auto event = std::make_shared<backend::Event>();
    const bool whole = select.Integer(2) == Checksum(sequence, previous, body) &&
                       event->ParseFromArray(body.data(), static_cast<int>(body.size())) &&
                       event->sequence() == sequence;
    if (!whole || previous != last) events.clear();
    if (whole) events.push_back(std::move(event));
    rows_.push_back({sequence, body.size()});
    bytes_ += body.size();
    last = sequence;
  }
}

absl::Status EventRows::Save(const std::vector<EventPtr>& events, bool anew) {
  std::vector<Row> added;
  size_t added_bytes = 0;
  size_t dropped_count = 0;
  size_t dropped_bytes = 0;
  RETURN_IF_ERROR(database_.InTransaction([&]() -> absl::Status {
    if (anew) RETURN_IF_ERROR(database_.Run("DELETE FROM events"));
    ASSIGN_OR_RETURN(Statement insert, database_.Prepare("INSERT INTO events VALUES (?, ?, ?, ?)"));
    uint64_t last = anew || rows_.empty() ? 0 : rows_.back().sequence;
    for (const EventPtr& event : events) {
      if (!IsKept(*event)) continue;
      const std::string body = event->SerializeAsString();
      RETURN_IF_ERROR(insert.Bind(static_cast<int64_t>(event->sequence()))
                          .Bind(static_cast<int64_t>(last))
                          .Bind(Checksum(event->sequence(), last, body))
                          .BindBlob(body)
                          .Run());
      last = event->sequence();
      added.push_back({last, body.size()});
      added_bytes += body.size();
    }
    RETURN_IF_ERROR(RaiseFloor(events.back()->sequence(), anew && added.empty()));
    if (anew) return absl::OkStatus();
    while (dropped_count < rows_.size() &&
           (rows_.size() - dropped_count + added.size() > bounds_.events_max ||
            bytes_ - dropped_bytes + added_bytes > bounds_.bytes_max)) {
      dropped_bytes += rows_[dropped_count++].bytes;
    }
    if (dropped_count == 0) return absl::OkStatus();
    ASSIGN_OR_RETURN(Statement drop, database_.Prepare("DELETE FROM events WHERE sequence <= ?"));
    return drop.Bind(static_cast<int64_t>(rows_[dropped_count - 1].sequence)).Run();
  }));
  if (anew) {
    rows_.clear();
    bytes_ = 0;
  }
  rows_.erase(rows_.begin(), rows_.begin() + static_cast<std::ptrdiff_t>(dropped_count));
  rows_.insert(rows_.end(), added.begin(), added.end());
  bytes_ = bytes_ - dropped_bytes + added_bytes;
  return absl::OkStatus();
}

// Where nothing is saved for long but progress is told, the next process must still know how far
// the sequence went.
absl::Status EventRows::RaiseFloor(uint64_t told, bool at_once) {
  const uint64_t known = std::max(floored_, rows_.empty() ? 0 : rows_.back().sequence);
  if (!at_once && told < known + kRestartGap / 4) return absl::OkStatus();
  ASSIGN_OR_RETURN(Statement raise,
                   database_.Prepare("UPDATE floor SET sequence = max(sequence, ?)"));
  RETURN_IF_ERROR(raise.Bind(static_cast<int64_t>(told + kRestartGap)).Run());
  floored_ = told;
  return absl::OkStatus();
}

absl::Status EventRows::Clear() {
  rows_.clear();
  bytes_ = 0;
  return database_.Run("DELETE FROM events");
}

}  // namespace tidemark::store
