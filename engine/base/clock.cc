#include "engine/base/clock.h"

#include <chrono>

#include "absl/time/clock.h"

namespace tidemark {
namespace {

class MachineClock final : public Clock {
 public:
  absl::Time Now() override { return absl::Now(); }
  absl::Duration Elapsed() override {
    return absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch());
  }
};

}  // namespace

Clock& SystemClock() {
  static Clock* const clock = new MachineClock;
  return *clock;
}

}  // namespace tidemark
