// A QMP client beside the service: somebody else. One thread.
#ifndef TESTS_FAULTS_RAW_MONITOR_H_
#define TESTS_FAULTS_RAW_MONITOR_H_

#include <memory>
#include <string>

#include "adapters/qmp/connection.h"
#include "adapters/qmp/testing/recorder.h"
#include "engine/base/notification.h"

namespace tidemark::test {

class RawMonitor {
 public:
  // Connects, and waits until that has succeeded or failed: at the latest when it was not greeted
  // for so long.
  explicit RawMonitor(const std::string& path, absl::Duration patience = absl::Seconds(60)) {
    qmp::ConnectionLimits limits;
    limits.handshake_max = patience;
    connection_ = qmp::Connection::Open(
        loop_, workers_, *qmp::MonitorAddress::Parse("unix:" + path), recorder_, limits);
    recorder_->WaitForAny({"ready", "closed"});
  }
  ~RawMonitor() {
    connection_.reset();
    recorder_->WaitFor("closed");
  }
  RawMonitor(const RawMonitor&) = delete;
  RawMonitor& operator=(const RawMonitor&) = delete;

  bool ready() { return recorder_->story().front() == "ready"; }

  qmp::Reply Run(const std::string& command, qmp::Json arguments = nullptr) {
    const std::string name = command + std::to_string(++run_);
    connection_->Execute(command, std::move(arguments), recorder_->Note(name));
    return recorder_->ReplyOf(name);
  }

  // The same, as quick as can be.
  qmp::Reply RoundTrip(const std::string& command) {
    Notification replied;
    qmp::Reply reply;
    connection_->Execute(command, nullptr, [&](qmp::Reply answer) {
      reply = std::move(answer);
      replied.Notify();
    });
    replied.Wait();
    return reply;
  }

  // Waits until it has come since the connection was made.
  bool WaitForEvent(const std::string& event) { return recorder_->WaitFor("event " + event); }

  // Waits until query-jobs has told it: asks again with each event.
  bool WaitForJobStatus(const std::string& job, const std::string& status) {
    for (int count = 1;; ++count) {
      const qmp::Reply reply = Run("query-jobs");
      if (!reply.ok()) return false;
      for (const qmp::Json& info : reply.value) {
        if (info["id"] == job && info["status"] == status) return true;
      }
      if (!recorder_->WaitFor("event JOB_STATUS_CHANGE", count)) return false;
    }
  }

 private:
  qmp::IoLoop loop_;
  WorkerPool workers_{"raw", 1};
  const std::shared_ptr<qmp::Recorder> recorder_ = std::make_shared<qmp::Recorder>();
  std::shared_ptr<qmp::Connection> connection_;
  int run_ = 0;
};

}  // namespace tidemark::test

#endif  // TESTS_FAULTS_RAW_MONITOR_H_
