// Stands between the service and a QEMU's monitor, so that the wire can fail while QEMU lives. Any
// thread.
#ifndef TESTS_FAULTS_MONITOR_PROXY_H_
#define TESTS_FAULTS_MONITOR_PROXY_H_

#include <string>
#include <thread>

#include "absl/strings/string_view.h"
#include "engine/base/mutex.h"

namespace tidemark::test {

class MonitorProxy {
 public:
  // Listens at `path`, or on a TCP port of this machine if it is empty; each client, one at a time,
  // is joined to the monitor at `monitor_path`.
  MonitorProxy(std::string path, std::string monitor_path);
  ~MonitorProxy();
  MonitorProxy(const MonitorProxy&) = delete;
  MonitorProxy& operator=(const MonitorProxy&) = delete;

  int port() const;

  // Ends the connection of now, and joins nobody until Mend.
  void Cut();
  void Mend();
  // What QEMU says is kept from the client from now on; what the client says goes on.
  void Mute();
  // Waits until QEMU has said `text` since Mute. False if it does not within a minute.
  bool WaitForMuted(absl::string_view text);
  // Sends bytes to the client as if QEMU had.
  void Inject(absl::string_view bytes);

 private:
  void Run();
  // True while both ends live.
  bool Forward(int from, int to, bool is_from_client);
  void Wake();

  // Constant after construction.
  const std::string path_;
  const std::string monitor_path_;
  int listener_ = -1;
  int wake_fd_ = -1;
  std::thread thread_;

  Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_cut_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_mute_ ABSL_GUARDED_BY(mutex_) = false;
  int client_ ABSL_GUARDED_BY(mutex_) = -1;
  int monitor_ ABSL_GUARDED_BY(mutex_) = -1;
  // What QEMU said in vain.
  std::string said_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace tidemark::test

#endif  // TESTS_FAULTS_MONITOR_PROXY_H_
