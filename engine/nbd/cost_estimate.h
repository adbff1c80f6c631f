// How long requests of a kind have taken lately: what decides whether the next one is run on the
// spot or in parallel with others. Used under its owner's lock.
#ifndef ENGINE_NBD_COST_ESTIMATE_H_
#define ENGINE_NBD_COST_ESTIMATE_H_

#include <algorithm>
#include <array>

#include "absl/time/time.h"
#include "engine/nbd/limits.h"
#include "engine/nbd/request.h"

namespace tidemark::nbd {

class CostEstimate {
 public:
  // True if waking another thread costs less than letting others wait for this request.
  bool IsSlow(const Request& request) const {
    return kinds_[KindOf(request)].estimate > kInlineCostMax;
  }

  void Record(const Request& request, absl::Duration took) {
    Kind& kind = kinds_[KindOf(request)];
    // One long wait says little about the next request.
    const absl::Duration sample = std::min(took, kInlineCostMax * 8);
    kind.estimate += (sample - kind.estimate) / 8;
    if (kind.estimate <= kInlineCostMax) {
      kind.slow_count = 0;
    } else if (++kind.slow_count >= kSlowRequestsBelieved) {
      // Requests may be slow only because so many run at once (a lock they all want): judge anew.
      kind = Kind();
    }
  }

 private:
  static size_t KindOf(const Request& request) {
    const size_t size_class = request.range.length_bytes > kSmallPayloadBytesMax ? 1 : 0;
    switch (request.command) {
      case Command::kRead:
        return 0 + size_class;
      case Command::kWrite:
        return 2 + size_class;
      case Command::kFlush:
        return 4;
      default:
        return 5;
    }
  }

  struct Kind {
    absl::Duration estimate;
    int slow_count = 0;  // Since the kind was last thought fast.
  };
  std::array<Kind, 6> kinds_;
};

}  // namespace tidemark::nbd

#endif  // ENGINE_NBD_COST_ESTIMATE_H_
