#include "service/start_wait.h"

namespace tidemark {

absl::Status WaitUntilShown(backend::EventLog& log, StopRequest& stop) {
  const auto over = std::make_shared<Notification>();
  const uint64_t position = log.position();
  const uint64_t wake = stop.Then([over] { over->Notify(); });
  log.RunWhenShown(position, [over] { over->Notify(); });
  over->Wait();
  stop.Forget(wake);
  return log.shown() < position ? StoppedError("the state folder") : absl::OkStatus();
}

}  // namespace tidemark
