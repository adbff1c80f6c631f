// A simulated machine: disks, and a native engine that runs on them until it is stopped or loses
// its power. One thread of the machine below (fibers.h).
#ifndef TESTS_SIMULATION_MACHINE_H_
#define TESTS_SIMULATION_MACHINE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/backend/command.h"
#include "engine/backend/event_log.h"
#include "engine/base/executor.h"
#include "engine/base/notification.h"
#include "engine/native/native_backend.h"
#include "tests/simulation/disk.h"
#include "tests/simulation/disk_model.h"
#include "tests/simulation/fibers.h"

namespace tidemark::simulation {

// Says what is wrong, and how to see it again, and ends the process.
[[noreturn]] void Fail(const std::string& what);

class Machine {
 public:
  Machine(Fibers* fibers, uint64_t seed);

  Disks& disks() { return *disks_; }
  // No two moments are the same.
  Moment now() { return ++moment_; }

  // A new engine. Its events begin anew.
  void Start();
  // Ends it in order. Whoever calls it, or uses its nodes, has stopped.
  void Stop();

  native::Engine& engine() { return backend_->engine(); }
  template <typename Function>
  auto OnEngine(Function&& function) {
    return engine().threads.OnEngine(std::forward<Function>(function));
  }

  // Sends a request and waits for its answer, which comes once.
  template <typename Response, typename Request>
  absl::StatusOr<Response> Call(const Request& request) {
    Notification answered;
    absl::StatusOr<Response> answer;
    auto count = std::make_shared<int>(0);
    ++calls_open_;
    backend::Invoke<Response>(*backend_, request, [&, count](absl::StatusOr<Response> response) {
      if (++*count != 1) Fail("a request was answered twice: " + request.ShortDebugString());
      answer = std::move(response);
      answered.Notify();
    });
    answered.Wait();
    --calls_open_;
    ++calls_answered_;
    if (tells_) Tell(request, answer.status());
    return answer;
  }
  int calls_open() const { return calls_open_; }
  uint64_t calls_answered() const { return calls_answered_; }

  // Events behind `after`, which is moved.
  std::vector<backend::EventPtr> ReadEvents(uint64_t* after);
  // Waits for events behind `after`, or for a while.
  void AwaitEvents(uint64_t after);

  // What happens is written to the standard error.
  void set_tells(bool tells) { tells_ = tells; }
  void Say(const std::string& text) const;

 private:
  void Tell(const google::protobuf::Message& request, const absl::Status& status) const;

  Fibers& fibers_;
  const std::unique_ptr<Disks> disks_;
  const int worker_count_;
  bool tells_ = false;
  Moment moment_ = 0;
  int calls_open_ = 0;
  uint64_t calls_answered_ = 0;
  std::unique_ptr<SerialExecutor> events_thread_;
  std::unique_ptr<backend::EventLog> log_;
  std::unique_ptr<native::NativeBackend> backend_;
};

}  // namespace tidemark::simulation

#endif  // TESTS_SIMULATION_MACHINE_H_
