#include "service/rpc/pump.h"

#include <algorithm>
#include <utility>

#include "engine/base/clock.h"
#include "service/rpc/limits.h"

namespace tidemark::rpc {

void Pump::Run(Reason reason) {
  {
    MutexLock lock(&mutex_);
    switch (state_) {
      case State::kEnded:
        return;
      case State::kBusy:
        if (reason == Reason::kKick) return;
        break;
      case State::kRunning:
        (reason == Reason::kKick ? kicked_ : resumed_) = true;
        return;
      case State::kIdle:
        break;
    }
    state_ = State::kRunning;
    kicked_ = resumed_ = false;
  }
  // Held until the last line: a step that ends the stream may let go of the last other reference.
  const std::shared_ptr<Pump> self = shared_from_this();
  for (;;) {
    const Next next = step_();
    if (!Settle(next)) return;
  }
}

bool Pump::Settle(const Next& next) {
  {
    MutexLock lock(&mutex_);
    switch (next.kind) {
      case Next::Kind::kEnd:
        state_ = State::kEnded;
        return false;
      case Next::Kind::kBusy:
        // The operation may have ended before its step returned.
        if (!resumed_) state_ = State::kBusy;
        return std::exchange(resumed_, false);
      case Next::Kind::kWait:
        if (std::exchange(kicked_, false)) return true;
        state_ = State::kIdle;
        break;
      case Next::Kind::kAgain:
        state_ = State::kIdle;
        break;
    }
  }
  if (next.kind == Next::Kind::kAgain) {
    executor_.Post([self = shared_from_this()] { self->Kick(); });
  } else {
    Wait(next);
  }
  return false;
}

void Pump::Wait(const Next& next) {
  const absl::Duration delay = std::min(std::max(next.delay, absl::Milliseconds(1)), kTimerMax);
  const absl::Duration due = SystemClock().Elapsed() + delay;
  bool arm_wake = false;
  bool arm_timer = false;
  {
    MutexLock lock(&mutex_);
    if (state_ == State::kEnded) return;
    arm_wake = !std::exchange(wake_armed_, true);
    // One that is due later cannot be taken back: it comes for nothing. One that is due by then
    // will do.
    arm_timer = next.delay < absl::InfiniteDuration() && due + kTimerSlack < timer_due_;
    if (arm_timer) timer_due_ = due;
  }
  if (arm_timer) {
    executor_.PostAfter(delay, [weak = weak_from_this(), due] {
      const std::shared_ptr<Pump> pump = weak.lock();
      if (pump == nullptr) return;
      {
        MutexLock lock(&pump->mutex_);
        if (pump->timer_due_ == due) pump->timer_due_ = absl::InfiniteDuration();
      }
      pump->Kick();
    });
  }
  if (!arm_wake) return;
  const uint64_t wake = log_.WakeAfter(next.after, [weak = weak_from_this()] {
    const std::shared_ptr<Pump> pump = weak.lock();
    if (pump == nullptr) return;
    {
      MutexLock lock(&pump->mutex_);
      pump->wake_armed_ = false;
    }
    pump->Kick();
  });
  bool ended = false;
  {
    MutexLock lock(&mutex_);
    wake_ = wake;
    ended = state_ == State::kEnded;
  }
  if (ended) log_.CancelWake(wake);
}

void Pump::Stop() {
  uint64_t wake = 0;
  {
    MutexLock lock(&mutex_);
    state_ = State::kEnded;
    wake = wake_;
  }
  log_.CancelWake(wake);
}

}  // namespace tidemark::rpc
