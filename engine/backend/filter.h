// A list in a request that says what the caller wants to see. Any thread.
#ifndef ENGINE_BACKEND_FILTER_H_
#define ENGINE_BACKEND_FILTER_H_

#include "absl/container/flat_hash_set.h"

namespace tidemark::backend {

// An empty list lets everything pass. However long it is, a value is looked up, not searched for:
// whoever sends long lists holds up nobody.
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

 private:
  const absl::flat_hash_set<Value> values_;
};

}  // namespace tidemark::backend

#endif  // ENGINE_BACKEND_FILTER_H_
