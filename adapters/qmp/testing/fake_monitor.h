// A QMP monitor without a QEMU behind it: it behaves well until the test says otherwise. Tests
// only.
//
// Like QEMU it serves one client at a time; others wait until that one has gone. Methods are for
// any thread; waits end by themselves, with false or an empty value, when nothing happens for a
// minute.
#ifndef ADAPTERS_QMP_TESTING_FAKE_MONITOR_H_
#define ADAPTERS_QMP_TESTING_FAKE_MONITOR_H_

#include <functional>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/string_view.h"
#include "adapters/qmp/json.h"
#include "engine/base/mutex.h"

namespace tidemark::qmp {

class FakeMonitor {
 public:
  // A reply without its id: {{"return", ...}} or {{"error", ...}}.
  using Handler = std::function<Json(const Json& arguments)>;

  // Listens on a unix socket; what is at `path` is replaced. `greeting` is sent to each client as
  // it is, an empty one is not.
  explicit FakeMonitor(std::string path, std::string greeting = DefaultGreeting());
  // Also ends the client and removes the socket.
  ~FakeMonitor();
  FakeMonitor(const FakeMonitor&) = delete;
  FakeMonitor& operator=(const FakeMonitor&) = delete;

  static std::string DefaultGreeting();
  const std::string& path() const { return path_; }

  // How `command` is answered from now on. At first qmp_capabilities and query-version succeed and
  // everything else is CommandNotFound. The handler runs on the monitor's thread.
  void Answer(const std::string& command, Handler handler);
  void Answer(const std::string& command, Json value);
  void Fail(const std::string& command, const std::string& error_class, const std::string& desc);
  // `command` is not answered until Reply.
  void Hold(const std::string& command);
  // Nothing is read from the client until Resume.
  void StopReading();
  void Resume();

  // Waits until `command` has come `count` times, over all clients; the last of those as it came.
  Json WaitForCommand(const std::string& command, int count = 1);
  int CountOf(const std::string& command);
  // Waits until `count` clients have been accepted, or have gone.
  bool WaitForClients(int count);
  bool WaitForEnds(int count);

  // To the client. False if there is none, or it has gone.
  bool Reply(const Json& command, Json value);
  bool SendEvent(const std::string& event, Json data);
  bool SendLine(const Json& line);
  bool SendBytes(absl::string_view bytes);
  // Ends the client.
  void Hangup();

 private:
  void Run();
  void Serve(int client);
  void OnLine(absl::string_view line);
  bool WaitUntil(const std::function<bool()>& condition) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Constant after construction.
  const std::string path_;
  const std::string greeting_;
  int listener_ = -1;
  int stop_[2] = {-1, -1};
  std::thread thread_;

  // One line at a time goes out.
  Mutex send_mutex_;

  Mutex mutex_;
  CondVar changed_;
  int client_ ABSL_GUARDED_BY(mutex_) = -1;
  int client_count_ ABSL_GUARDED_BY(mutex_) = 0;
  int end_count_ ABSL_GUARDED_BY(mutex_) = 0;
  bool reads_ ABSL_GUARDED_BY(mutex_) = true;
  std::map<std::string, Handler> handlers_ ABSL_GUARDED_BY(mutex_);
  std::set<std::string> held_ ABSL_GUARDED_BY(mutex_);
  std::vector<Json> commands_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tidemark::qmp

#endif  // ADAPTERS_QMP_TESTING_FAKE_MONITOR_H_
