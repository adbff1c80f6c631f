// Drives a stream that follows the event log: runs its step whenever there may be something to do,
// never two steps at once. What a step does to its stream needs no lock. Any thread; steps must not
// block.
#ifndef SERVICE_RPC_PUMP_H_
#define SERVICE_RPC_PUMP_H_

#include <cstdint>
#include <functional>
#include <memory>

#include "absl/time/time.h"
#include "engine/backend/event_log.h"
#include "engine/base/executor.h"
#include "engine/base/mutex.h"

namespace tidemark::rpc {

// Held by a shared_ptr: wakes and timers that come late find it gone.
class Pump final : public std::enable_shared_from_this<Pump> {
 public:
  // What to do after a step.
  struct Next {
    enum class Kind {
      kAgain,  // There is more to do: step again soon, after others had their turn.
      kBusy,   // An operation was started whose end calls Resume.
      kWait,   // Until the log goes beyond `after` or `delay` has passed.
      kEnd,    // Never step again. The stream may be gone already.
    };
    Kind kind = Kind::kEnd;
    uint64_t after = 0;
    absl::Duration delay = absl::InfiniteDuration();
  };
  using Step = std::function<Next()>;

  // `log` and `executor` must outlive every step.
  Pump(backend::EventLog& log, Executor& executor, Step step)
      : log_(log), executor_(executor), step_(std::move(step)) {}

  // Something may have changed. Ignored while busy, since a step follows anyway, and after the end.
  void Kick() { Run(Reason::kKick); }

  // The operation that a step began has ended: steps again.
  void Resume() { Run(Reason::kResume); }

  // No step begins any more. To be called when the last step has returned kEnd, or before the
  // first.
  void Stop();

 private:
  enum class Reason { kKick, kResume };
  enum class State { kIdle, kRunning, kBusy, kEnded };

  void Run(Reason reason);
  // Whether to step once more now.
  bool Settle(const Next& next);
  void Wait(const Next& next);

  backend::EventLog& log_;
  Executor& executor_;
  const Step step_;

  Mutex mutex_;
  State state_ ABSL_GUARDED_BY(mutex_) = State::kIdle;
  // What arrived while a step was running.
  bool kicked_ ABSL_GUARDED_BY(mutex_) = false;
  bool resumed_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t wake_ ABSL_GUARDED_BY(mutex_) = 0;
  bool wake_armed_ ABSL_GUARDED_BY(mutex_) = false;
  // When the timer that comes first is due, on SystemClock().Elapsed().
  absl::Duration timer_due_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteDuration();
};

}  // namespace tidemark::rpc

#endif  // SERVICE_RPC_PUMP_H_
