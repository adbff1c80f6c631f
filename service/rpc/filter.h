// A list in a request that says what the caller wants to see. Any thread.
#ifndef SERVICE_RPC_FILTER_H_
#define SERVICE_RPC_FILTER_H_

#include <algorithm>

#include "absl/container/flat_hash_set.h"

namespace tidemark::rpc {

// Whether `filter`, a short one, lets `value` pass: an empty one lets everything pass.
template <typename List, typename Value>
bool EmptyOrHas(const List& filter, const Value& value) {
  return filter.empty() || std::find(filter.begin(), filter.end(), value) != filter.end();
}

// The same for long lists, and for those that are asked again and again.
template <typename Value>
class Filter {
 public:
  template <typename List>
  explicit Filter(const List& list) : values_(list.begin(), list.end()) {}

  template <typename Key>
  bool Passes(const Key& value) const {
    return values_.empty() || values_.contains(value);
  }
  bool empty() const { return values_.empty(); }
  const absl::flat_hash_set<Value>& values() const { return values_; }

 private:
  const absl::flat_hash_set<Value> values_;
};

}  // namespace tidemark::rpc

#endif  // SERVICE_RPC_FILTER_H_
