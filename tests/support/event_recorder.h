// Listens to the event stream from a point on, keeps all that comes, and waits for things to
// happen. Any thread.
#ifndef TESTS_SUPPORT_EVENT_RECORDER_H_
#define TESTS_SUPPORT_EVENT_RECORDER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "tests/support/client.h"

namespace tidemark::test {

// What a job's events tell, one word each: states as "running", events as "COMPLETED",
// "COMPLETED(error)", "CANCELLED", "PENDING", "READY", "ERROR(write, report)".
using Story = std::vector<std::string>;

class EventRecorder {
 public:
  // Returns when the subscription stands: nothing that is started from now on is missed.
  explicit EventRecorder(Client* client);
  ~EventRecorder();
  EventRecorder(const EventRecorder&) = delete;
  EventRecorder& operator=(const EventRecorder&) = delete;

  std::vector<v1::Event> events() const;

  // Waits until `condition` holds of all events so far; false if it does not come true in time.
  bool WaitUntil(const std::function<bool(const std::vector<v1::Event>&)>& condition,
                 absl::Duration timeout = absl::Seconds(40)) const;
  // Waits until the job has been in `status`, this time or before. What QEMU does by itself
  // (`spontaneous`) does not count.
  bool WaitForStatus(const std::string& job, v1::JobStatus status) const;
  // The same, for the `count`th time.
  bool WaitForStatusTimes(const std::string& job, v1::JobStatus status, int count) const;
  bool WaitForKind(const std::string& subject, v1::EventKind kind) const;

  // The job's events in order. Progress is left out, and so are pairs of `paused` and `running`
  // (`standby` and `ready`): engines make them by themselves when they change the graph.
  Story StoryOf(const std::string& job) const;
  // The same of several jobs together, as "job: word".
  Story StoryOf(const std::vector<std::string>& jobs) const;
  // The events of errors, with their counts added up.
  uint64_t ErrorsOf(const std::string& job) const;

 private:
  struct Stream;
  void Listen();

  const std::unique_ptr<Stream> stream_;
};

// The job or export that an event is about.
std::string SubjectOf(const v1::Event& event);

}  // namespace tidemark::test

#endif  // TESTS_SUPPORT_EVENT_RECORDER_H_
