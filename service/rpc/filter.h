// A list in a request that says what the caller wants to see. Any thread.
#ifndef SERVICE_RPC_FILTER_H_
#define SERVICE_RPC_FILTER_H_

#include <algorithm>

namespace tidemark::rpc {

// Whether `filter` lets `value` pass: an empty one lets everything pass.
template <typename List, typename Value>
bool EmptyOrHas(const List& filter, const Value& value) {
  return filter.empty() || std::find(filter.begin(), filter.end(), value) != filter.end();
}

}  // namespace tidemark::rpc

#endif  // SERVICE_RPC_FILTER_H_
