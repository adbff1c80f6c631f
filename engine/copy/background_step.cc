#include "engine/copy/background_step.h"

#include <utility>

namespace tidemark::copy {

LaneWorkers BackgroundWorkers(const CopyWorkers& workers, std::function<void()> ready) {
  LaneWorkers lane;
  lane.source = workers.source_io != nullptr ? workers.source_io : workers.io;
  lane.target = workers.io;
  lane.order = workers.io;
  if (workers.io != nullptr) lane.watch = workers.watch;
  lane.ready = std::move(ready);
  return lane;
}

StepResult ResultOf(BackgroundCopy::Moved moved) {
  StepResult result;
  result.moved_bytes = moved.begun_bytes;
  result.io_error = std::move(moved.io_error);
  if (moved.waits) result.next = StepResult::Next::kWait;
  result.delay = moved.delay;
  result.in_flight = moved.in_flight;
  return result;
}

}  // namespace tidemark::copy
