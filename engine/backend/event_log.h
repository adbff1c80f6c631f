// The one log of what happened, on all engines: every event has a sequence number, and a reader
// that lost its place goes on from the number it last saw.
//
// Backends append; the gRPC front and the job book read by cursor. Any thread; no call blocks on
// I/O. `clock` and `executor` must outlive the log.
//
// Sequences start at 1 and count over all engines. A reader sees them grow but not without gaps:
//  - an error storm (a job with policy `ignore` on a broken disk) is told as one event at once, and
//    then at most one per kCoalescePeriod, each with the `count` of errors it stands for;
//  - JOB_PROGRESS comes at most once per job and kCoalescePeriod, and of each job only the newest
//    is kept: progress never pushes other events out of the log.
// What was held back for a job is appended before any other event of that job, so the order within
// a job is true.
#ifndef ENGINE_BACKEND_EVENT_LOG_H_
#define ENGINE_BACKEND_EVENT_LOG_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/backend/limits.h"
#include "engine/base/clock.h"
#include "engine/base/executor.h"
#include "tidemark/block/v1/event.pb.h"

namespace tidemark::backend {

using Event = ::tidemark::block::v1::Event;
// Shared by the log and its readers; never changed once appended.
using EventPtr = std::shared_ptr<const Event>;

// Where the newest events outlive the process.
class EventTail {
 public:
  virtual ~EventTail() = default;
  // What was saved, by rising sequence. Behind a gap, where events are missing, begins what a log
  // may show: EventLogOptions::kept. What lies before it still tells how jobs ended: JobBook.
  struct Saved {
    std::vector<EventPtr> before_gap;
    std::vector<EventPtr> events;
  };
  virtual absl::StatusOr<Saved> Load() = 0;
  // Adds events that follow those saved before; if it fails, none of them. Called on
  // EventLogOptions::saver, one call at a time, and again for the same events if it failed; may
  // block.
  virtual absl::Status Save(const std::vector<EventPtr>& events) = 0;
  // Events are missing between those saved and those that come next. Called as Save is.
  virtual void AddGap() = 0;
};

struct EventLogOptions {
  size_t events_kept_max = kEventsKeptMax;
  size_t event_bytes_kept_max = kEventBytesKeptMax;
  absl::Duration coalesce_period = kCoalescePeriod;
  // Of an earlier process: replayed, and the sequence goes on behind them.
  std::vector<EventPtr> kept;
  // The first sequence is greater than this. Without `kept`, all before it counts as dropped.
  uint64_t start_after = 0;
  // Told of every event; null: nothing outlives the process.
  std::shared_ptr<EventTail> tail;
  // Where the tail is told; must outlive the log. Null: on the log's executor.
  Executor* saver = nullptr;
};

class EventLog {
 public:
  EventLog(Clock& clock, Executor& executor, EventLogOptions options = {});
  ~EventLog();
  EventLog(const EventLog&) = delete;
  EventLog& operator=(const EventLog&) = delete;

  // Adds `event`, of which the caller has set the payload; sequence, kind and instance are set
  // here, and the time unless it is set (QEMU tells its own). Returns the log's position after it,
  // which is the event's sequence unless it is held back (see above).
  uint64_t Append(absl::string_view instance, Event event);

  // The newest sequence; 0 before the first event.
  uint64_t position() const;

  // The oldest sequence held; position() + 1 if none is.
  uint64_t oldest() const;

  // Up to `max` events after sequence `after`, oldest first; empty if there are none yet.
  // OUT_OF_RANGE: some were dropped (kEventsExpired, metadata oldest_sequence), or `after` lies in
  // the future (kSequenceUnknown, metadata newest_sequence).
  absl::StatusOr<std::vector<EventPtr>> Read(uint64_t after, size_t max = kEventsPerReadMax) const;

  // Runs `wake` once, on the executor, as soon as position() exceeds `after` (at once if it does).
  // Returns a number for CancelWake. A `wake` that was posted already still runs after CancelWake
  // and after the log's end: it must hold on to what it touches.
  uint64_t WakeAfter(uint64_t after, std::function<void()> wake);
  void CancelWake(uint64_t id);

  // Runs `then` once, on the executor, when the tail has saved every event up to `sequence`: at
  // once if it has, or if there is no tail. Events that the tail had to give up count as saved.
  // Still runs after the log's end.
  void RunWhenSaved(uint64_t sequence, std::function<void()> then);

  // Appends what is held back. Before a shutdown, and in tests.
  void Flush();

  // Wakes that wait: for tests of readers that disappear.
  size_t waiting_count() const;

 private:
  class Core;
  const std::shared_ptr<Core> core_;
};

}  // namespace tidemark::backend

#endif  // ENGINE_BACKEND_EVENT_LOG_H_
