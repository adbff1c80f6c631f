#include "service/rpc/stream_set.h"

namespace tidemark::rpc {

void StreamSet::Hold(const std::shared_ptr<Pump>& pump, std::vector<backend::EventPtr>* events) {
  uint64_t bytes = 0;
  for (const backend::EventPtr& event : *events) bytes += event->ByteSizeLong();
  MutexLock lock(&mutex_);
  const auto found = pumps_.find(pump);
  if (found == pumps_.end()) return;
  Stream& stream = found->second;
  stream.ticket.Shrink(std::exchange(stream.read_bytes, 0));
  if (stream.ticket.Grow(bytes).ok()) {
    stream.read_bytes = bytes;
  } else {
    // One more than it has room for is what lets it go on; the rest is still in the log.
    events->resize(1);
  }
}

}  // namespace tidemark::rpc
