// What the start of the service waits for, unless it is told to stop: disks that may hang, and the
// log. Any thread that may block.
#ifndef SERVICE_START_WAIT_H_
#define SERVICE_START_WAIT_H_

#include <memory>
#include <thread>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "engine/backend/event_log.h"
#include "engine/base/mutex.h"
#include "engine/base/notification.h"
#include "service/stop_request.h"

namespace tidemark {

inline absl::Status StoppedError(absl::string_view what) {
  return absl::CancelledError(absl::StrCat("told to stop while waiting for ", what));
}

// Runs `act`, which may hang at a disk, on a thread of its own, and returns what it returned, an
// absl::StatusOr. CANCELLED naming `what` as soon as `stop` is made: then the thread goes on alone,
// so `act` owns all that it uses.
template <typename Act>
std::invoke_result_t<Act&> RunUnlessStopped(StopRequest& stop, absl::string_view what, Act act) {
  struct Run {
    Mutex mutex;
    absl::optional<std::invoke_result_t<Act&>> result ABSL_GUARDED_BY(mutex);
    // The result is there, or the order to stop.
    Notification over;
  };
  const auto run = std::make_shared<Run>();
  const uint64_t wake = stop.Then([run] { run->over.Notify(); });
  std::thread([run, act = std::move(act)]() mutable {
    auto result = act();
    {
      MutexLock lock(&run->mutex);
      run->result = std::move(result);
    }
    run->over.Notify();
  }).detach();
  run->over.Wait();
  stop.Forget(wake);
  MutexLock lock(&run->mutex);
  if (!run->result.has_value()) return StoppedError(what);
  return *std::move(run->result);
}

// Returns once readers of `log` are shown all that has happened by now; CANCELLED as soon as `stop`
// is made.
absl::Status WaitUntilShown(backend::EventLog& log, StopRequest& stop);

}  // namespace tidemark

#endif  // SERVICE_START_WAIT_H_
