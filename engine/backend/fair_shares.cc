#include "engine/backend/fair_shares.h"

#include <algorithm>

#include "engine/base/check.h"

namespace tidemark::backend {

size_t FairShares::Weight(const Share& share) const {
  return share.items.size() * std::max<size_t>(bytes_max_ / std::max<size_t>(count_max_, 1), 1) +
         share.bytes;
}

template <typename Change>
void FairShares::Reweigh(const std::string& owner, Change change) {
  const auto share = shares_.try_emplace(owner).first;
  by_weight_.erase({Weight(share->second), owner});
  count_ -= share->second.items.size();
  bytes_ -= share->second.bytes;
  change(share->second);
  if (share->second.items.empty()) {
    shares_.erase(share);
    return;
  }
  count_ += share->second.items.size();
  bytes_ += share->second.bytes;
  by_weight_.insert({Weight(share->second), owner});
}

void FairShares::Add(absl::string_view owner, uint64_t number, size_t bytes) {
  Reweigh(std::string(owner), [number, bytes](Share& share) {
    if (share.items.emplace(number, bytes).second) share.bytes += bytes;
  });
}

void FairShares::Remove(absl::string_view owner, uint64_t number) {
  Reweigh(std::string(owner), [number](Share& share) {
    const auto item = share.items.find(number);
    if (item == share.items.end()) return;
    share.bytes -= item->second;
    share.items.erase(item);
  });
}

FairShares::Item FairShares::TakeOldest() {
  CHECK(!by_weight_.empty());
  Item oldest{by_weight_.rbegin()->second, 0, 0};
  const auto& first = *shares_.at(oldest.owner).items.begin();
  oldest.number = first.first;
  oldest.bytes = first.second;
  Remove(oldest.owner, oldest.number);
  return oldest;
}

uint64_t FairShares::newest(absl::string_view owner) const {
  const auto share = shares_.find(std::string(owner));
  return share == shares_.end() ? 0 : share->second.items.rbegin()->first;
}

}  // namespace tidemark::backend
