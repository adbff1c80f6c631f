#include "engine/native/order_book.h"

#include "engine/base/check.h"

namespace tidemark::native {

OrderBook::TicketId OrderBook::Add(Keys keys) {
  const TicketId id = next_id_++;
  tickets_[id].keys = std::move(keys);
  return id;
}

std::vector<OrderBook::TicketId> OrderBook::TakeReady() {
  std::vector<TicketId> ready;
  if (waiting_count() == 0) return ready;
  world_.BeginLook();
  Taken taken;
  for (auto& [id, ticket] : tickets_) {
    // Also of those that run: what they have linked meanwhile is theirs.
    const Claims claims = ClaimsOf(ticket);
    // One whose place is full waits, and those after it wait for it as for any other.
    if (!ticket.running && IsFree(taken, claims) && TakePlaces(&ticket)) {
      ticket.running = true;
      ++running_count_;
      ready.push_back(id);
    }
    Take(claims, &taken);
  }
  return ready;
}

void OrderBook::Remove(TicketId id) {
  const auto found = tickets_.find(id);
  CHECK(found != tickets_.end());
  if (found->second.running) {
    --running_count_;
    for (const std::string& place : found->second.places) {
      const auto count = running_by_place_.find(place);
      if (--count->second == 0) running_by_place_.erase(count);
    }
  }
  tickets_.erase(found);
}

std::vector<OrderBook::TicketId> OrderBook::Waiting() const {
  std::vector<TicketId> waiting;
  for (const auto& [id, ticket] : tickets_) {
    if (!ticket.running) waiting.push_back(id);
  }
  return waiting;
}

OrderBook::Claims OrderBook::ClaimsOf(const Ticket& ticket) {
  Claims claims;
  std::vector<std::string> parts;
  for (const OrderKey& key : ticket.keys) {
    parts.clear();
    world_.AddParts(key, &parts);
    for (std::string& part : parts) claims.emplace_back(std::move(part), key.shared);
  }
  return claims;
}

bool OrderBook::IsFree(const Taken& taken, const Claims& claims) {
  for (const auto& [part, shared] : claims) {
    const auto found = taken.find(part);
    if (found != taken.end() && !(shared && !found->second)) return false;
  }
  return true;
}

void OrderBook::Take(const Claims& claims, Taken* taken) {
  for (const auto& [part, shared] : claims) {
    bool& alone = (*taken)[part];
    alone = alone || !shared;
  }
}

bool OrderBook::TakePlaces(Ticket* ticket) {
  if (running_count_ >= static_cast<size_t>(limits_.running_max)) return false;
  absl::flat_hash_set<std::string> places;
  for (const OrderKey& key : ticket->keys) world_.AddPlaces(key, &places);
  for (const std::string& place : places) {
    const auto found = running_by_place_.find(place);
    if (found != running_by_place_.end() && found->second >= limits_.running_per_place_max) {
      return false;
    }
  }
  for (const std::string& place : places) ++running_by_place_[place];
  ticket->places = std::move(places);
  return true;
}

}  // namespace tidemark::native
