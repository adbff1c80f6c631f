// The time, handed in through constructors so that tests and simulation own it. Any thread.
#ifndef ENGINE_BASE_CLOCK_H_
#define ENGINE_BASE_CLOCK_H_

#include "absl/time/time.h"

namespace tidemark {

class Clock {
 public:
  virtual ~Clock() = default;

  // The time of day, for people: may jump.
  virtual absl::Time Now() = 0;

  // Time since some fixed moment, for measuring: never goes back.
  virtual absl::Duration Elapsed() = 0;
};

// The machine's clock. Lives for ever.
Clock& SystemClock();

// Stands still until told to move.
class ManualClock final : public Clock {
 public:
  absl::Time Now() override { return absl::UnixEpoch() + elapsed_; }
  absl::Duration Elapsed() override { return elapsed_; }
  void Advance(absl::Duration by) { elapsed_ += by; }

 private:
  absl::Duration elapsed_ = absl::ZeroDuration();
};

}  // namespace tidemark

#endif  // ENGINE_BASE_CLOCK_H_
