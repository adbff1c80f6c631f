// A tidemarkd with virtual machines for tests of what goes wrong between them. One thread, but for
// what says otherwise.
#ifndef TESTS_FAULTS_BRIDGE_WORLD_H_
#define TESTS_FAULTS_BRIDGE_WORLD_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/client.h"
#include "tests/support/daemon.h"
#include "tests/support/qemu_build.h"
#include "tests/support/storage_daemon_process.h"
#include "tests/support/temp_folder.h"

namespace tidemark::test {

class BridgeWorld {
 public:
  // `flags` of tidemarkd.
  explicit BridgeWorld(std::vector<std::string> flags = {});

  const TempFolder& folder() const { return folder_; }
  Daemon& daemon() { return *daemon_; }
  // Kills tidemarkd without warning, and starts it again on the same state.
  void KillDaemon() { daemon_->Kill(); }
  void StartDaemon();

  // Where the monitor of `instance` listens.
  std::string Socket(const std::string& instance) const;
  // Starts a QEMU there. `Qemu` is the one that runs.
  void StartQemu(const QemuBuild& qemu, const std::string& instance,
                 FirstClient first = FirstClient::kTest);
  StorageDaemonProcess& Qemu(const std::string& instance) { return *qemus_.at(instance); }
  void KillQemu(const std::string& instance) { qemus_.erase(instance); }

  // Any thread. A client whose requests are for `instance`.
  Client& ClientOf(const std::string& instance);

  // Registers an instance whose monitor listens at `path`, by default its Socket.
  Refusal Register(const std::string& instance, const std::string& path = "");
  // Waits until the instance satisfies the condition; how it was then or at last.
  std::pair<bool, v1::Instance> WaitFor(const std::string& instance,
                                        const std::function<bool(const v1::Instance&)>& condition);
  bool WaitForState(const std::string& instance, v1::InstanceState state);

  // A node of nothing but zeroes.
  Refusal AddNull(const std::string& instance, const std::string& node);
  // Starts a full backup from "source" to "target", which it adds. Slow: one that does not end by
  // itself within hours.
  Refusal StartBackup(const std::string& instance, const std::string& job, bool slow);

  // All events since `after`, until one satisfies the condition. Empty if none does, or if the
  // stream was refused; `refusal` (may be null) tells why.
  std::vector<v1::Event> EventsUntil(uint64_t after,
                                     const std::function<bool(const v1::Event&)>& condition,
                                     Refusal* refusal = nullptr);

 private:
  const TempFolder folder_;
  const std::vector<std::string> flags_;
  std::unique_ptr<Daemon> daemon_;
  std::map<std::string, std::unique_ptr<Client>> clients_;
  std::map<std::string, std::unique_ptr<StorageDaemonProcess>> qemus_;
};

// Whether the event says that the job has come to `status`.
bool IsStatus(const v1::Event& event, const std::string& job, v1::JobStatus status);

}  // namespace tidemark::test

#endif  // TESTS_FAULTS_BRIDGE_WORLD_H_
