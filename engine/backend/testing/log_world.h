// For tests of the event log: a world that stands still until it is told to move, events, and what
// a reader sees.
#ifndef ENGINE_BACKEND_TESTING_LOG_WORLD_H_
#define ENGINE_BACKEND_TESTING_LOG_WORLD_H_

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/backend/event_log.h"
#include "engine/backend/event_subject.h"
#include "engine/base/clock.h"
#include "engine/base/executor.h"
#include "gtest/gtest.h"

namespace tidemark::backend {

namespace v1 = ::tidemark::block::v1;

// Runs tasks when told to, on the calling thread, by a ManualClock.
class ManualExecutor final : public Executor {
 public:
  explicit ManualExecutor(ManualClock& clock) : clock_(clock) {}
  void Post(Task task) override { ready_.push_back(std::move(task)); }
  void PostAfter(absl::Duration delay, Task task) override {
    delayed_.emplace(clock_.Elapsed() + delay, std::move(task));
  }
  void RunReady() {
    while (!ready_.empty()) {
      Task task = std::move(ready_.front());
      ready_.pop_front();
      task();
    }
  }
  void Advance(absl::Duration by) {
    clock_.Advance(by);
    while (!delayed_.empty() && delayed_.begin()->first <= clock_.Elapsed()) {
      ready_.push_back(std::move(delayed_.begin()->second));
      delayed_.erase(delayed_.begin());
    }
    RunReady();
  }
  size_t timers() const { return delayed_.size(); }

 private:
  ManualClock& clock_;
  std::deque<Task> ready_;
  std::multimap<absl::Duration, Task> delayed_;
};

inline Event StatusChange(const std::string& job, v1::JobStatus status) {
  Event event;
  event.mutable_job_status_change()->set_id(job);
  event.mutable_job_status_change()->set_status(status);
  return event;
}

inline Event JobError(const std::string& job,
                      v1::IoOperationType operation = v1::IO_OPERATION_TYPE_WRITE,
                      v1::BlockErrorAction action = v1::BLOCK_ERROR_ACTION_IGNORE) {
  Event event;
  event.mutable_block_job_error()->set_device(job);
  event.mutable_block_job_error()->set_operation(operation);
  event.mutable_block_job_error()->set_action(action);
  return event;
}

// An error of a guest's request.
inline Event IoError(const std::string& device, const std::string& node = "") {
  Event event;
  event.mutable_block_io_error()->set_device(device);
  event.mutable_block_io_error()->set_node_name(node);
  event.mutable_block_io_error()->set_operation(v1::IO_OPERATION_TYPE_READ);
  event.mutable_block_io_error()->set_action(v1::BLOCK_ERROR_ACTION_REPORT);
  return event;
}

inline Event Progress(const std::string& job, int64_t bytes) {
  Event event;
  event.mutable_job_progress()->set_id(job);
  event.mutable_job_progress()->set_progress_bytes(bytes);
  return event;
}

// "3 job0 ERROR*7" and the like: sequence, job, what.
inline std::string Describe(const Event& event) {
  std::string text = std::to_string(event.sequence()) + " " + std::string(JobIdOf(event)) + " ";
  if (event.has_block_job_error()) {
    return text + "ERROR*" + std::to_string(event.block_job_error().count());
  }
  if (event.has_job_progress()) {
    return text + "PROGRESS " + std::to_string(event.job_progress().progress_bytes());
  }
  if (event.has_block_io_error()) {
    return text + event.block_io_error().device() + event.block_io_error().node_name() +
           " IO_ERROR*" + std::to_string(event.block_io_error().count());
  }
  if (event.has_state_saving_change()) {
    return text + (event.state_saving_change().saving() ? "SAVING" : "NOT SAVING");
  }
  if (!event.has_job_status_change()) return text + v1::EventKind_Name(event.kind());
  return text + v1::JobStatus_Name(event.job_status_change().status());
}

class LogWorld : public testing::Test {
 protected:
  void Make(EventLogOptions options) {
    log_ = std::make_unique<EventLog>(clock_, executor_, std::move(options));
  }
  void SetUp() override { Make({}); }
  std::vector<std::string> ReadAll(uint64_t after = 0) {
    const auto events = log_->Read(after);
    std::vector<std::string> all;
    if (!events.ok()) return {events.status().ToString()};
    for (const EventPtr& event : *events) {
      all.push_back(Describe(*event) + (event->unsaved() ? " unsaved" : ""));
    }
    return all;
  }

  ManualClock clock_;
  ManualExecutor executor_{clock_};
  std::unique_ptr<EventLog> log_;
};

}  // namespace tidemark::backend

#endif  // ENGINE_BACKEND_TESTING_LOG_WORLD_H_
