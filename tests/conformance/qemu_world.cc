#include "tests/conformance/qemu_world.h"

#include <gtest/gtest.h>
#include <signal.h>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace tidemark::test {
namespace {

constexpr absl::Duration kReadyTimeout = absl::Seconds(60);
constexpr absl::Duration kEndTimeout = absl::Seconds(60);

}  // namespace

std::vector<std::string> QemuWorld::EngineCommand() {
  std::vector<std::string> command = qemu_.Command("qemu-storage-daemon");
  command.insert(command.end(),
                 {"--chardev",
                  absl::StrCat("socket,path=", monitor_socket(), ",server=on,wait=off,id=monitor"),
                  "--monitor", "chardev=monitor"});
  return command;
}

bool QemuWorld::StartEngine() {
  engine_ = std::make_unique<Process>(EngineCommand(), folder().File("engine.log"));
  return true;
}

bool QemuWorld::IntroduceEngine() {
  // After a restart the service knows it already; then this changes nothing.
  v1::CreateInstanceRequest create;
  create.set_id(instance());
  create.mutable_address()->mutable_unix_socket()->set_path(monitor_socket());
  const auto created = client().Invoke(create);
  EXPECT_TRUE(created.ok()) << created;
  if (!created.ok()) return false;
  v1::GetInstanceRequest get;
  get.set_id(instance());
  const absl::Time deadline = absl::Now() + kReadyTimeout;
  v1::Instance seen = created->instance();
  while (seen.state() != v1::INSTANCE_STATE_READY && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(5));
    seen = client().Invoke(get)->instance();
  }
  EXPECT_EQ(seen.state(), v1::INSTANCE_STATE_READY) << seen.ShortDebugString() << engine_->Log();
  return seen.state() == v1::INSTANCE_STATE_READY;
}

void QemuWorld::BeginStop() { engine_->Signal(SIGTERM); }

void QemuWorld::FinishStop() {
  EXPECT_EQ(engine_->Wait(kEndTimeout).value_or(-1), 0) << engine_->Log();
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
