// The file descriptors that are kept for those who must always get one: clients that connect to
// say what is to be closed. Whoever opens descriptors by the hundred at somebody's request (images,
// guests' connections) asks here, with the one that it was just given, and gives it back if
// refused. Any thread.
#ifndef ENGINE_BASE_DESCRIPTOR_RESERVE_H_
#define ENGINE_BASE_DESCRIPTOR_RESERVE_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace tidemark {

// How many are kept; at most a quarter of what the process may have.
inline constexpr uint64_t kDescriptorReserve = 64;

// LIMIT_REACHED, naming the limit, if `descriptor` is among the last of those that the process may
// have. The kernel gives out the lowest that is free, so all below it are in use. `attempted` says
// what it was opened for, as "cannot open \"/a.qcow2\"".
absl::Status CheckDescriptorReserve(int descriptor, absl::string_view attempted);

// The same refusal after the kernel has given none (EMFILE).
absl::Status OutOfDescriptorsError(absl::string_view attempted);

}  // namespace tidemark

#endif  // ENGINE_BASE_DESCRIPTOR_RESERVE_H_
