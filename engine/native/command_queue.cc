#include "engine/native/command_queue.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/error.h"
#include "engine/base/notification.h"
#include "engine/native/limits.h"

namespace tidemark::native {

CommandQueue::CommandQueue(Threads* threads, OrderBook::World* world)
    : threads_(*threads),
      book_(world, {.running_max = kCommandsRunningMax,
                    .running_per_place_max = kCommandsRunningPerMountMax}) {}

void CommandQueue::AddCommand(Keys keys, Task run, Refuse refuse) {
  if (book_.waiting_count() >= kCommandsWaitingMax) {
    return refuse(Error(Reason::kLimitReached,
                        absl::StrCat("there are ", kCommandsWaitingMax,
                                     " commands waiting for their turn already: try again later"),
                        {{"limit", absl::StrCat(kCommandsWaitingMax)}}));
  }
  Insert(std::move(keys), {std::move(run), std::move(refuse)});
}

void CommandQueue::Add(Keys keys, Task run) { Insert(std::move(keys), {std::move(run), nullptr}); }

void CommandQueue::Insert(Keys keys, Entry entry) {
  entries_[book_.Add(std::move(keys))] = std::move(entry);
  PostDispatch();
}

void CommandQueue::RunAndWait(Keys keys, absl::FunctionRef<void()> function) {
  Notification done;
  threads_.engine().Post([&, keys = std::move(keys)]() mutable {
    Add(std::move(keys), [&] {
      function();
      done.Notify();
    });
  });
  done.Wait();
}

// Once for all that has come meanwhile: a look at the world costs.
void CommandQueue::PostDispatch() {
  if (std::exchange(dispatch_posted_, true)) return;
  threads_.engine().Post([this] {
    dispatch_posted_ = false;
    Dispatch();
  });
}

void CommandQueue::Dispatch() {
  if (stopped_) return;
  for (const OrderBook::TicketId id : book_.TakeReady()) {
    threads_.commands().Post([this, id, run = std::move(entries_[id].run)]() mutable {
      run();
      run = nullptr;  // What it holds is released here, where that may block.
      threads_.engine().Post([this, id] { OnDone(id); });
    });
  }
}

void CommandQueue::OnDone(OrderBook::TicketId id) {
  book_.Remove(id);
  entries_.erase(id);
  ReportIfIdle();
  PostDispatch();
}

void CommandQueue::RefuseWaiting(const absl::Status& status) {
  for (const OrderBook::TicketId id : book_.Waiting()) {
    const auto entry = entries_.find(id);
    if (entry->second.refuse == nullptr) continue;
    entry->second.refuse(status);
    book_.Remove(id);
    entries_.erase(entry);
  }
  ReportIfIdle();
  PostDispatch();
}

void CommandQueue::Stop(const absl::Status& status) {
  stopped_ = true;
  for (const auto& [id, entry] : entries_) {
    if (entry.refuse != nullptr) entry.refuse(status);
  }
}

void CommandQueue::WhenIdle(Task task) {
  when_idle_.push_back(std::move(task));
  ReportIfIdle();
}

void CommandQueue::ReportIfIdle() {
  if (!entries_.empty()) return;
  for (Task& task : std::exchange(when_idle_, {})) threads_.engine().Post(std::move(task));
}

}  // namespace tidemark::native
