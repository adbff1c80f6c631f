#include "tests/conformance/backend.h"

#include <gtest/gtest.h>
#include <signal.h>

#include "absl/strings/match.h"
#include "tests/conformance/qemu_world.h"
#include "tests/support/qemu_build.h"

namespace tidemark::test {
namespace {

constexpr absl::Duration kEndTimeout = absl::Seconds(60);

std::unique_ptr<World> MakeNative(std::vector<std::string> flags) {
  return std::make_unique<World>(std::move(flags));
}

}  // namespace

bool World::Start() {
  if (!StartEngine()) return false;
  daemon_ = std::make_unique<Daemon>(&folder_, flags_);
  if (!daemon_->started()) return false;
  client_ = std::make_unique<Client>(daemon_->address(), instance());
  if (!IntroduceEngine()) return false;
  events_ = std::make_unique<EventRecorder>(client_.get());
  return true;
}

void World::Stop() {
  BeginStop();
  FinishStop();
}

void World::BeginStop() { daemon_->process().Signal(SIGTERM); }

void World::FinishStop() {
  const int status = daemon_->process().Wait(kEndTimeout).value_or(-1);
  // A disk that was made too small for what it was to hold (CrampedOptions) is not saved, and the
  // end says so.
  const bool is_cramped = absl::StrContains(daemon_->Log(), "reaches past the end of raw window");
  EXPECT_EQ(status, is_cramped ? 1 : 0) << daemon_->Log();
}

void World::Crash() { daemon_->Kill(); }

std::string World::Log() { return daemon_ == nullptr ? "" : daemon_->Log(); }

const std::vector<Backend>& Backends() {
  static const auto* backends = [] {
    auto* all = new std::vector<Backend>{{"Native", &MakeNative, ""}};
    for (const QemuBuild& qemu : QemuBuild::All()) {
      all->push_back({qemu.name(), WorldOf<QemuWorld>(qemu), qemu.Missing()});
    }
    return all;
  }();
  return *backends;
}

}  // namespace tidemark::test
