#include "engine/base/descriptor_reserve.h"

#include <sys/resource.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"

namespace tidemark {
namespace {

// How many descriptors the process may have; 0 if that is not known.
uint64_t DescriptorLimit() {
  rlimit limit = {};
  return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : 0;
}

uint64_t ReserveOf(uint64_t limit) { return std::min(kDescriptorReserve, limit / 4); }

}  // namespace

absl::Status OutOfDescriptorsError(absl::string_view attempted) {
  const uint64_t limit = DescriptorLimit();
  return Error(Reason::kLimitReached,
               absl::StrCat(attempted, ": the service may have ", limit,
                            " descriptors (RLIMIT_NOFILE), of which ", ReserveOf(limit),
                            " are kept for clients; close images, or start it with a higher limit"),
               {{"value", absl::StrCat(limit)}});
}

absl::Status CheckDescriptorReserve(int descriptor, absl::string_view attempted) {
  const uint64_t limit = DescriptorLimit();
  if (limit == 0 || static_cast<uint64_t>(descriptor) < limit - ReserveOf(limit)) {
    return absl::OkStatus();
  }
  return OutOfDescriptorsError(attempted);
}

}  // namespace tidemark
