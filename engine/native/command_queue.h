// Runs the commands that change the graph, and the ends of jobs: each on a thread that may wait for
// a disk, in the order of their calls as far as they touch the same part of the graph
// (order_book.h), and side by side otherwise.
#ifndef ENGINE_NATIVE_COMMAND_QUEUE_H_
#define ENGINE_NATIVE_COMMAND_QUEUE_H_

#include <functional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "engine/base/executor.h"
#include "engine/native/order_book.h"
#include "engine/native/threads.h"

namespace tidemark::native {

// Engine thread, but for RunAndWait. What it points to must outlive it.
class CommandQueue {
 public:
  using Keys = OrderBook::Keys;
  // Answers for a command that does not run, or whose end is not waited for any more.
  using Refuse = std::function<void(const absl::Status&)>;

  CommandQueue(Threads* threads, OrderBook::World* world);

  // `run` has its turn after all earlier ones that have a key in common with it. Refused at once
  // with LIMIT_REACHED if too many wait.
  void AddCommand(Keys keys, Task run, Refuse refuse);
  // The same for what is never refused: the end of a job, or a step of one.
  void Add(Keys keys, Task run);

  // Worker that runs no command: adds `function` and returns when it has run.
  void RunAndWait(Keys keys, absl::FunctionRef<void()> function);

  // Shutdown: refuses the commands that still wait.
  void RefuseWaiting(const absl::Status& status);
  // Starts nothing any more, and answers for those that have not answered: they are not waited for.
  void Stop(const absl::Status& status);
  // Posts `task` to the engine thread when nothing waits or runs.
  void WhenIdle(Task task);

 private:
  struct Entry {
    Task run;
    Refuse refuse;  // Null for what is never refused.
  };

  void Insert(Keys keys, Entry entry);
  void PostDispatch();
  void Dispatch();
  void OnDone(OrderBook::TicketId id);
  void ReportIfIdle();

  Threads& threads_;
  OrderBook book_;
  absl::flat_hash_map<OrderBook::TicketId, Entry> entries_;
  bool dispatch_posted_ = false;
  bool stopped_ = false;
  std::vector<Task> when_idle_;
};

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_COMMAND_QUEUE_H_
