// The events that a log holds, and what it knows of those that it does not hold any more. Not
// thread-safe: the event log calls it with its lock held.
#ifndef ENGINE_BACKEND_HELD_EVENTS_H_
#define ENGINE_BACKEND_HELD_EVENTS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/backend/fair_shares.h"
#include "tidemark/block/v1/event.pb.h"

namespace tidemark::backend {

class HeldEvents {
 public:
  using Event = ::tidemark::block::v1::Event;
  using EventPtr = std::shared_ptr<const Event>;

  // Up to `dropped` events of any instance are missing, and those of one instance up to its.
  HeldEvents(size_t count_max, size_t bytes_max, uint64_t dropped,
             std::map<std::string, uint64_t> dropped_of);

  // Adds the newest. What is too much is dropped: see fair_shares.h.
  void Add(EventPtr event);
  // Takes out one that nobody misses; what is not there is ignored.
  void Remove(uint64_t sequence);
  // Everything up to `sequence` counts as missing.
  void DropUpTo(uint64_t sequence);

  // The newest sequence of `instances` (empty: of any) that is missing.
  uint64_t DroppedOf(const std::vector<std::string>& instances) const;
  // The oldest held behind `sequence`; `otherwise` if there is none.
  uint64_t OldestBehind(uint64_t sequence, uint64_t otherwise) const;
  // Up to `max` events behind `after` and up to `end`. Those behind `saved` are marked as unsaved:
  // that takes one copy of each, however many readers there are.
  std::vector<EventPtr> Read(uint64_t after, uint64_t end, uint64_t saved, size_t max);

 private:
  // Makes a copy unless it is marked so already.
  static void Mark(bool unsaved, EventPtr* event);

  std::map<uint64_t, EventPtr> events_;
  FairShares shares_;
  // Of every instance; of any; and of each that lost more than every one.
  uint64_t dropped_base_;
  uint64_t dropped_;
  std::map<std::string, uint64_t> dropped_of_;
};

}  // namespace tidemark::backend

#endif  // ENGINE_BACKEND_HELD_EVENTS_H_
