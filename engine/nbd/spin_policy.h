// Whether it pays to look for the next request for a moment before sleeping: waking a sleeper costs
// more than many a request does, but a look that finds nothing takes the processor from somebody
// else. Spins only while requests have lately come soon after one another. Used by one thread at a
// time.
#ifndef ENGINE_NBD_SPIN_POLICY_H_
#define ENGINE_NBD_SPIN_POLICY_H_

#include <algorithm>

#include "absl/time/time.h"
#include "engine/nbd/limits.h"

namespace tidemark::nbd {

class SpinPolicy {
 public:
  absl::Duration spin() const { return credit_ > 0 ? kSpin : absl::ZeroDuration(); }

  // The next request came after `waited`.
  void Record(absl::Duration waited) {
    credit_ = waited < kSpin ? std::min(credit_ + 1, kCreditMax) : std::max(credit_ - 2, 0);
  }

 private:
  static constexpr int kCreditMax = 16;
  int credit_ = 0;
};

}  // namespace tidemark::nbd

#endif  // ENGINE_NBD_SPIN_POLICY_H_
