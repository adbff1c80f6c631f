// Who holds how much of something bounded, and whose oldest goes when it is too much: that of the
// owner who has most. So each of N owners is sure of an Nth, and what one does not need others
// have.
//
// Items have numbers that no two share, of which an owner's lowest is its oldest. Not thread-safe.
#ifndef ENGINE_BACKEND_FAIR_SHARES_H_
#define ENGINE_BACKEND_FAIR_SHARES_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"

namespace tidemark::backend {

class FairShares {
 public:
  struct Item {
    std::string owner;
    uint64_t number;
    size_t bytes;
  };

  FairShares(size_t count_max, size_t bytes_max) : count_max_(count_max), bytes_max_(bytes_max) {}

  void Add(absl::string_view owner, uint64_t number, size_t bytes);
  // What is not there is ignored.
  void Remove(absl::string_view owner, uint64_t number);

  // More than one is held, and more than there may be.
  bool is_too_much() const { return count_ > 1 && (count_ > count_max_ || bytes_ > bytes_max_); }
  // Takes out the oldest of the owner who has most. Something must be held.
  Item TakeOldest();

  // The newest of an owner; 0: it holds nothing.
  uint64_t newest(absl::string_view owner) const;
  size_t count() const { return count_; }
  size_t bytes() const { return bytes_; }

 private:
  struct Share {
    std::map<uint64_t, size_t> items;  // Bytes by number.
    size_t bytes = 0;
  };
  // How much an owner has: an item counts for as many bytes as it may have on average.
  size_t Weight(const Share& share) const;
  template <typename Change>
  void Reweigh(const std::string& owner, Change change);

  const size_t count_max_;
  const size_t bytes_max_;
  std::map<std::string, Share> shares_;  // None is empty.
  std::set<std::pair<size_t, std::string>> by_weight_;
  size_t count_ = 0;
  size_t bytes_ = 0;
};

}  // namespace tidemark::backend

#endif  // ENGINE_BACKEND_FAIR_SHARES_H_
