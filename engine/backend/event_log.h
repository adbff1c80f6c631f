// The one log of what happened, on all engines: every event has a sequence number, and a reader
// that lost its place goes on from the number it last saw.
//
// Backends append; the gRPC front and the job book read by cursor. Any thread; no call blocks on
// I/O. `clock` and `executor` must outlive the log.
//
// What is told is true: where a tail keeps the newest events, a reader is shown an event only once
// the tail has saved it (many at a time, if many happen). So no process knows less than its
// predecessor told. If the tail fails, or does not answer for kSaveTimeMax, events are shown all
// the same, but marked `unsaved`; STATE_SAVING_CHANGE tells when that begins and ends.
//
// Every instance has its share: what is too much is taken from the instance that has most
// (fair_shares.h), so that the storms of one do not evict what others did. A reader that says whose
// events it wants is harmed only by what is missing of these.
//
// Sequences start at 1 and count over all engines. A reader sees them grow but not without gaps:
// storms are told as few events (coalescer.h), and of the JOB_PROGRESS of each job only the newest
// is kept: progress never pushes other events out of the log.
#ifndef ENGINE_BACKEND_EVENT_LOG_H_
#define ENGINE_BACKEND_EVENT_LOG_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
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
  // What was saved, by rising sequence, and how far events are missing: see EventLogOptions.
  struct Saved {
    std::vector<EventPtr> events;
    uint64_t dropped = 0;
    std::map<std::string, uint64_t> dropped_of;
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
  // Up to here events of any instance are missing before `kept`; and those of one instance.
  uint64_t dropped = 0;
  std::map<std::string, uint64_t> dropped_of;
  // The first sequence is greater than this. Without `kept`, all before it counts as dropped.
  uint64_t start_after = 0;
  // See id(). Empty: one is made up.
  std::string id;
  // Told of every event; null: nothing outlives the process.
  std::shared_ptr<EventTail> tail;
  // Where the tail is told; must outlive the log. Null: on the log's executor.
  Executor* saver = nullptr;
  absl::Duration save_time_max = kSaveTimeMax;
  // What an operator should read: that the tail does not answer, and that it does again. What it
  // answers is its own to tell. Any thread.
  std::function<void(const std::string&)> warn = [](const std::string&) {};
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

  // Which log this is: stays the same for as long as sequences mean the same.
  const std::string& id() const;

  // The newest sequence; 0 before the first event.
  uint64_t position() const;

  // The newest sequence that readers are shown; at most position().
  uint64_t shown() const;

  // The newest sequence that the tail has saved or given up; position() if there is no tail.
  uint64_t saved() const;

  // Whether there is a tail.
  bool is_kept() const;

  // OK while all that is shown is saved, or there is no tail. Else why not.
  absl::Status saving() const;

  // The oldest sequence held behind all that was dropped; position() + 1 if none is.
  uint64_t oldest() const;

  // Up to `max` events after sequence `after` that are shown, oldest first, of all instances; empty
  // if there are none yet. OUT_OF_RANGE: of `instances` (empty: of any) some were dropped
  // (kEventsExpired, metadata oldest_sequence), or `after` lies in the future (kSequenceUnknown,
  // metadata newest_sequence).
  absl::StatusOr<std::vector<EventPtr>> Read(uint64_t after, size_t max = kEventsPerReadMax,
                                             const std::vector<std::string>& instances = {}) const;

  // For the books: what is held after `after`, whatever was dropped before; with `unshown` also
  // what readers are not shown yet.
  std::vector<EventPtr> ReadHeld(uint64_t after, bool unshown,
                                 size_t max = kEventsPerReadMax) const;

  // Runs `wake` once, on the executor, as soon as shown() exceeds `after` (at once if it does).
  // Returns a number for CancelWake. A `wake` that was posted already still runs after CancelWake
  // and after the log's end: it must hold on to what it touches.
  uint64_t WakeAfter(uint64_t after, std::function<void()> wake);
  void CancelWake(uint64_t id);

  // Runs `then` once when shown() has reached `sequence`: before this returns if it has, else on
  // the executor. Still runs after the log's end.
  void RunWhenShown(uint64_t sequence, std::function<void()> then);

  // Runs `then` once, on the executor, when the tail has saved every event up to `sequence`: at
  // once if it has, or if there is no tail. Events that the tail had to give up count as saved.
  // Still runs after the log's end.
  void RunWhenSaved(uint64_t sequence, std::function<void()> then);

  // What is stored beside the tail, in the same folder, has not been answered for `age`: from now
  // on saving() is an error, until the tail has saved what comes next. Nothing without a tail.
  void TellNotAnswering(absl::Duration age);

  // Runs `changed` on the executor whenever saving() has become OK or an error. One at most; the
  // last call counts.
  void OnSavingChange(std::function<void(absl::Status)> changed);

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
