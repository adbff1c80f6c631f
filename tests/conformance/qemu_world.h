// A world whose engine is a qemu-storage-daemon, registered with the service as an instance.
#ifndef TESTS_CONFORMANCE_QEMU_WORLD_H_
#define TESTS_CONFORMANCE_QEMU_WORLD_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/conformance/backend.h"
#include "tests/support/process.h"
#include "tests/support/qemu_build.h"

namespace tidemark::test {

class QemuWorld : public World {
 public:
  QemuWorld(QemuBuild qemu, std::vector<std::string> flags)
      : World(std::move(flags)), qemu_(std::move(qemu)) {}

  void BeginStop() override;
  void FinishStop() override;
  void Crash() override;
  void KillQemuAtEnd() override { is_killed_at_end_ = true; }
  std::string Log() override;

 protected:
  std::string instance() const override { return "vm"; }
  // The program, with a monitor at monitor_socket().
  virtual std::vector<std::string> EngineCommand();
  std::string monitor_socket() { return folder().File("engine.sock"); }
  const QemuBuild& qemu() const { return qemu_; }
  bool StartEngine() override;
  // Waits until the instance is READY.
  bool IntroduceEngine() override;

 private:
  const QemuBuild qemu_;
  std::unique_ptr<Process> engine_;
  bool is_killed_at_end_ = false;
};

// What makes a QemuWorld, or one like it, of this build.
template <class Made>
auto WorldOf(const QemuBuild& qemu) {
  return [qemu](std::vector<std::string> flags) -> std::unique_ptr<World> {
    return std::make_unique<Made>(qemu, std::move(flags));
  };
}

}  // namespace tidemark::test

#endif  // TESTS_CONFORMANCE_QEMU_WORLD_H_
