#include "engine/storage/completion_watch.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <system_error>
#include <utility>

#include "engine/base/check.h"
#include "engine/base/cooperation.h"
#include "engine/storage/limits.h"

namespace tidemark::storage {
namespace {

constexpr uint64_t kStopNumber = 0;

}  // namespace

CompletionWatch::CompletionWatch()
    : epoll_fd_(epoll_create1(EPOLL_CLOEXEC)), stop_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (epoll_fd_ < 0 || stop_fd_ < 0) return;
  // A simulation cannot play a thread that waits in the kernel: nothing can be watched.
  if (Cooperation::current() != nullptr) return;
  epoll_event event = {};
  event.events = EPOLLIN;
  event.data.u64 = kStopNumber;
  if (epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, stop_fd_, &event) != 0) return;
  try {
    thread_ = std::thread([this] { Run(); });
  } catch (const std::system_error&) {
    // Nothing can be watched.
  }
}

CompletionWatch::~CompletionWatch() {
  {
    MutexLock lock(&mutex_);
    CHECK(watched_.empty());
  }
  if (thread_.joinable()) {
    const uint64_t one = 1;
    (void)!write(stop_fd_, &one, sizeof(one));
    thread_.join();
  }
  if (stop_fd_ >= 0) close(stop_fd_);
  if (epoll_fd_ >= 0) close(epoll_fd_);
}

bool CompletionWatch::Add(IoQueue* queue, std::function<void()> on_completion) {
  const int fd = queue->completion_fd();
  if (fd < 0 || !thread_.joinable()) return false;
  MutexLock lock(&mutex_);
  const uint64_t number = next_number_++;
  epoll_event event = {};
  // Edges: it is told once, and again when more has come.
  event.events = EPOLLIN | EPOLLET;
  event.data.u64 = number;
  if (epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event) != 0) return false;
  watched_.emplace(number, Watched{queue, std::move(on_completion)});
  return true;
}

void CompletionWatch::Remove(IoQueue* queue) {
  MutexLock lock(&mutex_);
  for (auto it = watched_.begin(); it != watched_.end(); ++it) {
    if (it->second.queue != queue) continue;
    epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, queue->completion_fd(), nullptr);
    watched_.erase(it);
    return;
  }
}

void CompletionWatch::Run() {
  epoll_event events[kCompletionEventsMax];
  for (;;) {
    const int count = epoll_wait(epoll_fd_, events, kCompletionEventsMax, -1);
    for (int i = 0; i < count; ++i) {
      if (events[i].data.u64 == kStopNumber) return;
      MutexLock lock(&mutex_);
      const auto found = watched_.find(events[i].data.u64);
      if (found != watched_.end()) found->second.on_completion();
    }
  }
}

}  // namespace tidemark::storage
