#include "adapters/qmp/io_loop.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "adapters/qmp/limits.h"
#include "engine/base/check.h"
#include "engine/base/clock.h"

namespace tidemark::qmp {
namespace {

// The watch of the loop's own wake-up.
constexpr IoLoop::WatchId kWakeWatch = 0;
// Sleeps no longer than this in one go, so that milliseconds fit an int.
constexpr absl::Duration kSleepMax = absl::Hours(1);

void Control(int poll_fd, int operation, int fd, uint32_t interest, IoLoop::WatchId watch) {
  epoll_event event = {};
  event.events = interest;
  event.data.u64 = watch;
  CHECK(epoll_ctl(poll_fd, operation, fd, &event) == 0);
}

}  // namespace

IoLoop::IoLoop(std::string name) : name_(std::move(name)) {
  poll_fd_ = epoll_create1(EPOLL_CLOEXEC);
  wake_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  CHECK(poll_fd_ >= 0 && wake_fd_ >= 0);
  Control(poll_fd_, EPOLL_CTL_ADD, wake_fd_, EPOLLIN, kWakeWatch);
  thread_ = std::thread([this] { Run(); });
}

IoLoop::~IoLoop() {
  CHECK(!OnLoopThread());
  stopping_ = true;
  Wake();
  thread_.join();
  // What is dropped may still call us.
  while (RunPosted()) continue;
  std::unordered_map<WatchId, std::shared_ptr<Watched>> watches;
  std::map<std::pair<absl::Duration, TimerId>, Task> timers;
  {
    MutexLock lock(&mutex_);
    watches.swap(watches_);
    timers.swap(timers_);
    due_.clear();
  }
  watches.clear();
  timers.clear();
  close(wake_fd_);
  close(poll_fd_);
}

bool IoLoop::OnLoopThread() const { return std::this_thread::get_id() == thread_id_; }

void IoLoop::Post(Task task) {
  {
    MutexLock lock(&mutex_);
    posted_.push_back(std::move(task));
  }
  // On its own thread the loop looks at the queue before it sleeps.
  if (!OnLoopThread()) Wake();
}

IoLoop::TimerId IoLoop::RunAfter(absl::Duration delay, Task task) {
  const absl::Duration due = SystemClock().Elapsed() + std::max(delay, absl::ZeroDuration());
  TimerId timer;
  bool is_first;
  {
    MutexLock lock(&mutex_);
    timer = next_id_++;
    const auto position = timers_.emplace(std::make_pair(due, timer), std::move(task)).first;
    due_.emplace(timer, due);
    is_first = position == timers_.begin();
  }
  if (is_first && !OnLoopThread()) Wake();
  return timer;
}

bool IoLoop::Cancel(TimerId timer) {
  Task task;  // Destroyed without the lock: it may own anything.
  MutexLock lock(&mutex_);
  const auto due = due_.find(timer);
  if (due == due_.end()) return false;
  const auto position = timers_.find({due->second, timer});
  task = std::move(position->second);
  timers_.erase(position);
  due_.erase(due);
  return true;
}

IoLoop::WatchId IoLoop::Watch(int fd, uint32_t interest, Handler handler) {
  auto watched = std::make_shared<Watched>(Watched{fd, interest, std::move(handler)});
  MutexLock lock(&mutex_);
  const WatchId watch = next_id_++;
  watches_.emplace(watch, std::move(watched));
  if (interest != 0) Control(poll_fd_, EPOLL_CTL_ADD, fd, interest, watch);
  return watch;
}

void IoLoop::SetInterest(WatchId watch, uint32_t interest) {
  MutexLock lock(&mutex_);
  const auto found = watches_.find(watch);
  if (found == watches_.end()) return;
  Watched& watched = *found->second;
  if (watched.interest == interest) return;
  // Errors are reported even for an empty interest: then the poll must not know the descriptor.
  const int operation = watched.interest == 0 ? EPOLL_CTL_ADD
                        : interest == 0       ? EPOLL_CTL_DEL
                                              : EPOLL_CTL_MOD;
  Control(poll_fd_, operation, watched.fd, interest, watch);
  watched.interest = interest;
}

void IoLoop::Unwatch(WatchId watch) {
  std::shared_ptr<Watched> watched;  // Destroyed without the lock.
  MutexLock lock(&mutex_);
  const auto found = watches_.find(watch);
  if (found == watches_.end()) return;
  watched = std::move(found->second);
  watches_.erase(found);
  if (watched->interest != 0) Control(poll_fd_, EPOLL_CTL_DEL, watched->fd, 0, watch);
}

void IoLoop::Wake() {
  if (woken_.exchange(true)) return;
  const uint64_t one = 1;
  // Fails only if the counter is full, and then the loop is awake.
  [[maybe_unused]] const ssize_t written = write(wake_fd_, &one, sizeof(one));
}

void IoLoop::Run() {
  thread_id_ = std::this_thread::get_id();
  pthread_setname_np(pthread_self(), name_.substr(0, 15).c_str());
  epoll_event events[kPollEventsMax];
  while (!stopping_) {
    const int count = epoll_wait(poll_fd_, events, kPollEventsMax, SleepMilliseconds());
    for (int i = 0; i < count; ++i) {
      if (events[i].data.u64 == kWakeWatch) {
        uint64_t wakes;
        [[maybe_unused]] const ssize_t taken = read(wake_fd_, &wakes, sizeof(wakes));
        // Before the queue is looked at: what is posted from now on wakes again.
        woken_ = false;
      } else {
        Dispatch(events[i].data.u64, events[i].events);
      }
    }
    RunTimers();
    RunPosted();
  }
  while (RunPosted()) continue;
}

int IoLoop::SleepMilliseconds() {
  MutexLock lock(&mutex_);
  if (!posted_.empty()) return 0;
  if (timers_.empty()) return -1;
  const absl::Duration left = timers_.begin()->first.first - SystemClock().Elapsed();
  const absl::Duration bounded = std::clamp(left, absl::ZeroDuration(), kSleepMax);
  // Rounded up: a millisecond too early would be asked for again, in a busy loop.
  return static_cast<int>(absl::ToInt64Milliseconds(absl::Ceil(bounded, absl::Milliseconds(1))));
}

void IoLoop::RunTimers() {
  const absl::Duration now = SystemClock().Elapsed();
  for (;;) {
    Task task;
    {
      MutexLock lock(&mutex_);
      if (timers_.empty() || timers_.begin()->first.first > now) return;
      task = std::move(timers_.begin()->second);
      due_.erase(timers_.begin()->first.second);
      timers_.erase(timers_.begin());
    }
    task();
  }
}

bool IoLoop::RunPosted() {
  std::vector<Task> tasks;
  {
    MutexLock lock(&mutex_);
    tasks.swap(posted_);
  }
  for (Task& task : tasks) {
    task();
    task = nullptr;  // In order: what it owns goes before the next one runs.
  }
  return !tasks.empty();
}

void IoLoop::Dispatch(WatchId watch, uint32_t ready) {
  std::shared_ptr<Watched> watched;
  {
    MutexLock lock(&mutex_);
    const auto found = watches_.find(watch);
    // Ended, or no longer interested, since the poll looked.
    if (found == watches_.end() || found->second->interest == 0) return;
    watched = found->second;
  }
  watched->handler(ready);
}

}  // namespace tidemark::qmp
