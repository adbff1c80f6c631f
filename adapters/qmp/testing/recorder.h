// What a connection tells, kept and waited for. Tests only; any thread.
#ifndef ADAPTERS_QMP_TESTING_RECORDER_H_
#define ADAPTERS_QMP_TESTING_RECORDER_H_

#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "adapters/qmp/connection.h"
#include "engine/base/clock.h"
#include "engine/base/error_metadata.h"
#include "engine/base/mutex.h"

namespace tidemark::qmp {

class Recorder final : public Connection::Listener {
 public:
  void OnReady(const Greeting& greeting) override {
    MutexLock lock(&mutex_);
    greeting_ = greeting;
    Add("ready");
  }
  void OnEvent(Json event) override {
    MutexLock lock(&mutex_);
    events_.push_back(event);
    Add("event " + event["event"].get<std::string>());
  }
  void OnClosed(const absl::Status& why) override {
    MutexLock lock(&mutex_);
    why_ = why;
    Add("closed");
  }

  // For Execute: the reply is noted in its place in the story, as "reply `name`".
  std::function<void(Reply)> Note(std::string name) {
    return [this, name = std::move(name)](const Reply& reply) {
      MutexLock lock(&mutex_);
      replies_[name] = reply;
      Add("reply " + name);
    };
  }

  // Waits until `what` has happened `count` times; false if it does not within a minute.
  bool WaitFor(const std::string& what, int count = 1) { return WaitForAny({what}, count); }
  // The same for `count` of several things together.
  bool WaitForAny(const std::vector<std::string>& what, int count = 1) {
    MutexLock lock(&mutex_);
    const absl::Duration end = SystemClock().Elapsed() + absl::Minutes(1);
    const auto happened = [&](const std::string& one) {
      return std::find(what.begin(), what.end(), one) != what.end();
    };
    while (std::count_if(story_.begin(), story_.end(), happened) < count) {
      const absl::Duration left = end - SystemClock().Elapsed();
      if (left <= absl::ZeroDuration()) return false;
      changed_.WaitFor(&mutex_, left);
    }
    return true;
  }
  bool WaitForReady() { return WaitFor("ready"); }

  // In the order told: "ready", "event NAME", "reply NAME", "closed".
  std::vector<std::string> story() {
    MutexLock lock(&mutex_);
    return story_;
  }
  Greeting greeting() {
    MutexLock lock(&mutex_);
    return greeting_;
  }
  std::vector<Json> events() {
    MutexLock lock(&mutex_);
    return events_;
  }
  // The reply noted under `name`, waited for.
  Reply ReplyOf(const std::string& name) {
    if (!WaitFor("reply " + name)) return Reply{absl::DeadlineExceededError("no reply")};
    MutexLock lock(&mutex_);
    return replies_[name];
  }
  // Why the connection ended, waited for.
  absl::Status Why() {
    if (!WaitFor("closed")) return absl::DeadlineExceededError("not closed");
    MutexLock lock(&mutex_);
    return why_;
  }
  std::string Cause() { return MetadataOf(Why(), "cause"); }

 private:
  void Add(std::string what) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    story_.push_back(std::move(what));
    changed_.SignalAll();
  }

  Mutex mutex_;
  CondVar changed_;
  std::vector<std::string> story_ ABSL_GUARDED_BY(mutex_);
  Greeting greeting_ ABSL_GUARDED_BY(mutex_);
  std::vector<Json> events_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Reply> replies_ ABSL_GUARDED_BY(mutex_);
  absl::Status why_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tidemark::qmp

#endif  // ADAPTERS_QMP_TESTING_RECORDER_H_
