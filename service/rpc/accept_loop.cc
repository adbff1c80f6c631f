#include "service/rpc/accept_loop.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/descriptor_reserve.h"
#include "service/rpc/limits.h"

namespace tidemark::rpc {

absl::StatusOr<std::unique_ptr<AcceptLoop>> AcceptLoop::Start(std::vector<int> listeners,
                                                              std::string clients, Hooks hooks) {
  const int wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake < 0) return OutOfDescriptorsError("Cannot accept connections");
  auto loop = std::unique_ptr<AcceptLoop>(
      new AcceptLoop(std::move(listeners), std::move(clients), wake, std::move(hooks)));
  loop->thread_.emplace("accept", [self = loop.get()] { self->Run(); });
  return loop;
}

AcceptLoop::AcceptLoop(std::vector<int> listeners, std::string clients, int wake, Hooks hooks)
    : listeners_(std::move(listeners)),
      clients_(std::move(clients)),
      wake_(wake),
      hooks_(std::move(hooks)) {}

AcceptLoop::~AcceptLoop() {
  const uint64_t one = 1;
  CHECK(write(wake_, &one, sizeof one) == sizeof one);
  if (thread_.has_value()) thread_->Join();
  close(wake_);
}

void AcceptLoop::Run() {
  std::vector<pollfd> entries = {{wake_, POLLIN, 0}};
  for (const int listener : listeners_) entries.push_back({listener, POLLIN, 0});
  for (;;) {
    poll(entries.data(), entries.size(), -1);
    if (entries[0].revents != 0) return;
    bool has_room = true;
    for (size_t i = 1; i < entries.size(); ++i) {
      if (entries[i].revents != 0) has_room = AcceptOne(entries[i].fd) && has_room;
    }
    // The client waits in the kernel, so that the next poll would return at once: others are to end
    // first.
    if (!has_room) poll(entries.data(), 1, absl::ToInt64Milliseconds(kAcceptRetryInterval));
  }
}

bool AcceptLoop::AcceptOne(int listener) {
  const int descriptor = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (descriptor < 0) {
    const bool is_full = errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
    if (is_full) Warn(OutOfDescriptorsError(absl::StrCat(clients_, " has to wait")));
    return !is_full;
  }
  if (const absl::Status taken = hooks_.take(listener, descriptor); !taken.ok()) Warn(taken);
  return true;
}

void AcceptLoop::Warn(const absl::Status& why) {
  const absl::Duration now = SystemClock().Elapsed();
  if (warned_at_.has_value() && now - *warned_at_ < kWarningInterval) return;
  warned_at_ = now;
  hooks_.warn(std::string(why.message()));
}

}  // namespace tidemark::rpc
