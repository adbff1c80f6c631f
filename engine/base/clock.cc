#include "engine/base/clock.h"

#include <chrono>

#include "absl/time/clock.h"
#include "engine/base/cooperation.h"

namespace tidemark {
namespace {

class MachineClock final : public Clock {
 public:
  absl::Time Now() override {
    Cooperation* const cooperation = Cooperation::current();
    return cooperation == nullptr ? absl::Now() : absl::UnixEpoch() + cooperation->Elapsed();
  }
  absl::Duration Elapsed() override {
    Cooperation* const cooperation = Cooperation::current();
    if (cooperation != nullptr) return cooperation->Elapsed();
    return absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch());
  }
};

}  // namespace

Clock& SystemClock() {
  static Clock* const clock = new MachineClock;
  return *clock;
}

}  // namespace tidemark
