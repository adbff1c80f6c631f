// Tells storms as few events: like errors as one with a `count`, progress at a bounded rate.
//
// Errors of a job (BLOCK_JOB_ERROR) and of devices and nodes (BLOCK_IO_ERROR, QUORUM_FAILURE,
// QUORUM_REPORT_BAD) are told at once the first time, then at most once a period for each kind of
// them. What is held back comes out before any other event of its job (or, for what is of no job,
// before any other such event of its instance), so that the order of what is told is true.
//
// Not thread-safe: the event log calls it with its lock held.
#ifndef ENGINE_BACKEND_COALESCER_H_
#define ENGINE_BACKEND_COALESCER_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "tidemark/block/v1/event.pb.h"

namespace tidemark::backend {

class Coalescer {
 public:
  using Event = ::tidemark::block::v1::Event;
  // Tells an event and returns its sequence. The one with the sequence `replaced` is worthless by
  // it; 0: none is.
  using Tell = absl::FunctionRef<uint64_t(Event event, uint64_t replaced)>;

  explicit Coalescer(absl::Duration period) : period_(period) {}

  // Tells `event`, after what must come before it; or holds it back. `now` only grows.
  void Add(Event event, absl::Duration now, Tell tell);

  // Tells what was held back for a period.
  void TellDue(absl::Duration now, Tell tell);
  // Tells all that is held back.
  void TellAll(absl::Duration now, Tell tell);

  // Something is held back: TellDue is to be called after a period.
  bool holds_back() const { return held_back_count_ > 0; }

 private:
  // A kind of error, told at `told`; `held_back` stands for those since.
  struct ErrorKind {
    absl::Duration told;
    absl::optional<Event> held_back;
  };
  // Of a job, or of all of an instance that is no job's.
  struct Slot {
    std::map<std::string, ErrorKind> errors;  // By what makes them alike.
    absl::Duration progress_told;
    absl::optional<Event> progress_held_back;
    uint64_t progress_sequence = 0;  // The newest one told: replaced by the next.
  };
  using SlotKey = std::pair<std::string, std::string>;  // Instance, job or "".

  Slot& SlotOf(SlotKey key, absl::Duration now, Tell tell);
  void AddError(std::string kind, Event event, Slot& slot, absl::Duration now, Tell tell);
  void AddProgress(Event event, Slot& slot, absl::Duration now, Tell tell);
  // Tells what the slot holds back, if it was told last at `told_by` or before.
  void TellSlot(Slot& slot, absl::Duration told_by, absl::Duration now, Tell tell);

  const absl::Duration period_;
  std::map<SlotKey, Slot> slots_;
  size_t held_back_count_ = 0;
};

}  // namespace tidemark::backend

#endif  // ENGINE_BACKEND_COALESCER_H_
