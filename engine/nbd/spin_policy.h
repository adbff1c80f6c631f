// Whether to look for the next request for a moment before sleeping. Where client and server have a
// processor each, waking a sleeper costs more than many a request does; where they share one, a
// look keeps the client from running. Nobody can tell but by trying: so both ways are tried now and
// then, and the one that gets requests sooner is kept. Used by one thread at a time.
#ifndef ENGINE_NBD_SPIN_POLICY_H_
#define ENGINE_NBD_SPIN_POLICY_H_

#include "absl/time/time.h"
#include "engine/nbd/limits.h"

namespace tidemark::nbd {

class SpinPolicy {
 public:
  // How long to look before sleeping, this time.
  absl::Duration spin() const { return spins_ ? kSpin : absl::ZeroDuration(); }

  // The request came after `waited`, spent as spin() said.
  void Record(absl::Duration waited) {
    if (waited > kSpinPause) {
      spins_ = false;  // The client was at rest, which tells nothing; but a look would be a waste.
      return;
    }
    Average& average = spins_ ? with_spin_ : without_spin_;
    average.value += average.known ? (waited - average.value) / 8 : waited;
    average.known = true;
    if (--requests_left_ > 0) return;
    if (trying_) {
      // Looking takes processor time from others: it has to be clearly better.
      spins_ = with_spin_.known && with_spin_.value < without_spin_.value * 0.8;
      requests_left_ = kSpinKeptRequests;
    } else {
      spins_ = !spins_;
      requests_left_ = kSpinTriedRequests;
    }
    trying_ = !trying_;
  }

 private:
  struct Average {
    bool known = false;
    absl::Duration value;
  };

  Average with_spin_;
  Average without_spin_;
  bool spins_ = false;
  // The way that seemed worse is being tried again.
  bool trying_ = false;
  int requests_left_ = kSpinTriedRequests;
};

}  // namespace tidemark::nbd

#endif  // ENGINE_NBD_SPIN_POLICY_H_
