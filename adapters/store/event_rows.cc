// Each row names the sequence of the one before it, so that a missing row shows; and has a checksum
// over all of it, since SQLite has none.
#include "adapters/store/event_rows.h"

#include <zlib.h>

#include <algorithm>
#include <iterator>
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

absl::StatusOr<backend::EventTail::Saved> EventRows::Load() {
  rows_.clear();
  bytes_ = 0;
  backend::EventTail::Saved saved;
  ASSIGN_OR_RETURN(
      Statement select,
      database_.Prepare("SELECT sequence, previous, checksum, body FROM events ORDER BY sequence"));
  uint64_t last = 0;
  for (;;) {
    ASSIGN_OR_RETURN(const bool row, select.Step());
    if (!row) return saved;
    const uint64_t sequence = static_cast<uint64_t>(select.Integer(0));
    const uint64_t previous = static_cast<uint64_t>(select.Integer(1));
    const absl::string_view body = select.Bytes(3);
    auto event = std::make_shared<backend::Event>();
    const bool whole = select.Integer(2) == Checksum(sequence, previous, body) &&
                       event->ParseFromArray(body.data(), static_cast<int>(body.size())) &&
                       event->sequence() == sequence;
    if (!whole || previous != last) {
      std::move(saved.events.begin(), saved.events.end(), std::back_inserter(saved.before_gap));
      saved.events.clear();
    }
    if (whole) saved.events.push_back(std::move(event));
    rows_.push_back({sequence, body.size()});
    bytes_ += body.size();
    last = sequence;
  }
}

absl::Status EventRows::Save(const std::vector<EventPtr>& events, bool is_behind_gap) {
  std::vector<Row> added;
  size_t dropped_count = 0;
  RETURN_IF_ERROR(database_.InTransaction([&]() -> absl::Status {
    RETURN_IF_ERROR(Insert(events, is_behind_gap, &added));
    RETURN_IF_ERROR(RaiseFloor(events.back()->sequence()));
    return DropOldest(added, &dropped_count);
  }));
  for (; dropped_count > 0; --dropped_count) {
    bytes_ -= rows_.front().bytes;
    rows_.pop_front();
  }
  for (const Row& row : added) {
    bytes_ += row.bytes;
    rows_.push_back(row);
  }
  return absl::OkStatus();
}

absl::Status EventRows::Insert(const std::vector<EventPtr>& events, bool is_behind_gap,
                               std::vector<Row>* added) {
  ASSIGN_OR_RETURN(Statement insert, database_.Prepare("INSERT INTO events VALUES (?, ?, ?, ?)"));
  uint64_t last = is_behind_gap || rows_.empty() ? 0 : rows_.back().sequence;
  const auto add = [&](uint64_t sequence, const std::string& body) {
    insert.Bind(static_cast<int64_t>(sequence))
        .Bind(static_cast<int64_t>(last))
        .Bind(Checksum(sequence, last, body))
        .BindBlob(body);
    last = sequence;
    added->push_back({sequence, body.size()});
    return insert.Run();
  };
  for (const EventPtr& event : events) {
    if (IsKept(*event)) RETURN_IF_ERROR(add(event->sequence(), event->SerializeAsString()));
  }
  // No event is empty, so that Load takes it for a gap.
  if (is_behind_gap && added->empty()) return add(events.back()->sequence(), "");
  return absl::OkStatus();
}

// Of the rows that were there before `added`.
absl::Status EventRows::DropOldest(const std::vector<Row>& added, size_t* count) {
  size_t bytes = bytes_;
  for (const Row& row : added) bytes += row.bytes;
  while (*count < rows_.size() &&
         (rows_.size() - *count + added.size() > bounds_.events_max || bytes > bounds_.bytes_max)) {
    bytes -= rows_[(*count)++].bytes;
  }
  if (*count == 0) return absl::OkStatus();
  ASSIGN_OR_RETURN(Statement drop, database_.Prepare("DELETE FROM events WHERE sequence <= ?"));
  return drop.Bind(static_cast<int64_t>(rows_[*count - 1].sequence)).Run();
}

// Where nothing is saved for long but progress is told, the next process must still know how far
// the sequence went.
absl::Status EventRows::RaiseFloor(uint64_t told) {
  const uint64_t known = std::max(floored_, rows_.empty() ? 0 : rows_.back().sequence);
  if (told < known + kRestartGap / 4) return absl::OkStatus();
  ASSIGN_OR_RETURN(Statement raise,
                   database_.Prepare("UPDATE floor SET sequence = max(sequence, ?)"));
  RETURN_IF_ERROR(raise.Bind(static_cast<int64_t>(told + kRestartGap)).Run());
  floored_ = told;
  return absl::OkStatus();
}

absl::Status EventRows::AddGap(uint64_t sequence) {
  ASSIGN_OR_RETURN(Statement insert,
                   database_.Prepare("INSERT OR REPLACE INTO events VALUES (?, 0, 0, x'')"));
  RETURN_IF_ERROR(insert.Bind(static_cast<int64_t>(sequence)).Run());
  rows_.push_back({sequence, 0});
  return absl::OkStatus();
}

}  // namespace tidemark::store
