#include "engine/backend/held_events.h"

#include <algorithm>
#include <utility>

#include "engine/backend/limits.h"

namespace tidemark::backend {

HeldEvents::HeldEvents(size_t count_max, size_t bytes_max, uint64_t dropped,
                       std::map<std::string, uint64_t> dropped_of)
    : shares_(count_max, bytes_max),
      dropped_base_(dropped),
      dropped_(dropped),
      dropped_of_(std::move(dropped_of)) {
  for (const auto& [instance, sequence] : dropped_of_) dropped_ = std::max(dropped_, sequence);
}

void HeldEvents::Add(EventPtr event) {
  shares_.Add(event->instance(), event->sequence(), event->ByteSizeLong());
  events_.emplace_hint(events_.end(), event->sequence(), std::move(event));
  while (shares_.is_too_much()) {
    const FairShares::Item item = shares_.TakeOldest();
    events_.erase(item.number);
    dropped_ = std::max(dropped_, item.number);
    dropped_of_[item.owner] = item.number;
  }
  // Names of instances come and go; what is not told apart any more counts as missing of all.
  while (dropped_of_.size() > kDroppedInstancesMax) {
    dropped_base_ = std::max(dropped_base_, dropped_of_.begin()->second);
    dropped_of_.erase(dropped_of_.begin());
  }
}

void HeldEvents::Remove(uint64_t sequence) {
  const auto found = events_.find(sequence);
  if (found == events_.end()) return;
  shares_.Remove(found->second->instance(), sequence);
  events_.erase(found);
}

void HeldEvents::DropUpTo(uint64_t sequence) {
  dropped_base_ = std::max(dropped_base_, sequence);
  dropped_ = std::max(dropped_, sequence);
}

uint64_t HeldEvents::DroppedOf(const std::vector<std::string>& instances) const {
  if (instances.empty()) return dropped_;
  uint64_t dropped = dropped_base_;
  for (const std::string& instance : instances) {
    const auto found = dropped_of_.find(instance);
    if (found != dropped_of_.end()) dropped = std::max(dropped, found->second);
  }
  return dropped;
}

uint64_t HeldEvents::OldestBehind(uint64_t sequence, uint64_t otherwise) const {
  const auto oldest = events_.upper_bound(sequence);
  return oldest == events_.end() ? otherwise : oldest->first;
}

void HeldEvents::Mark(bool unsaved, EventPtr* event) {
  if ((*event)->unsaved() == unsaved) return;
  auto marked = std::make_shared<Event>(**event);
  marked->set_unsaved(unsaved);
  *event = std::move(marked);
}

std::vector<HeldEvents::EventPtr> HeldEvents::Read(uint64_t after, uint64_t end, uint64_t saved,
                                                   size_t max) {
  std::vector<EventPtr> events;
  for (auto held = events_.upper_bound(after);
       held != events_.end() && held->first <= end && events.size() < max; ++held) {
    Mark(held->first > saved, &held->second);
    events.push_back(held->second);
  }
  return events;
}

}  // namespace tidemark::backend
