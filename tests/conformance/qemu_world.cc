#include "tests/conformance/qemu_world.h"

#include <gtest/gtest.h>
#include <signal.h>

#include "absl/strings/str_cat.h"
#include "tests/conformance/requests.h"
#include "tests/support/storage_daemon_process.h"

namespace tidemark::test {
namespace {

constexpr absl::Duration kEndTimeout = absl::Seconds(60);

}  // namespace

std::vector<std::string> QemuWorld::EngineCommand() {
  return StorageDaemonCommand(qemu_, monitor_socket());
}

bool QemuWorld::StartEngine() {
  engine_ = std::make_unique<Process>(EngineCommand(), folder().File("engine.log"));
  AwaitMonitor(monitor_socket());
  return true;
}

bool QemuWorld::IntroduceEngine() {
  // After a restart the service knows it already; then this changes nothing.
  const auto created = client().Invoke(CreateInstance(instance(), monitor_socket()));
  EXPECT_TRUE(created.ok()) << created;
  if (!created.ok()) return false;
  const bool ready =
      client().WaitForInstance(instance(), v1::INSTANCE_STATE_READY).id() == instance();
  EXPECT_TRUE(ready) << engine_->Log();
  return ready;
}

void QemuWorld::BeginStop() { engine_->Signal(is_killed_at_end_ ? SIGKILL : SIGTERM); }

void QemuWorld::FinishStop() {
  const auto status = engine_->Wait(kEndTimeout);
  EXPECT_TRUE(status.has_value()) << "it hangs:\n" << engine_->Log();
  if (!is_killed_at_end_) {
    EXPECT_EQ(status.value_or(0), 0) << engine_->Log();
  }
  World::BeginStop();
  World::FinishStop();
}

void QemuWorld::Crash() {
  World::Crash();
  engine_->Signal(SIGKILL);
  engine_->Wait(kEndTimeout);
}

std::string QemuWorld::Log() {
  return absl::StrCat(World::Log(), "\nQEMU said:\n", engine_ == nullptr ? "" : engine_->Log());
}

}  // namespace tidemark::test
