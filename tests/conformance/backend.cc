#include "tests/conformance/backend.h"

#include <gtest/gtest.h>

namespace tidemark::test {
namespace {

std::unique_ptr<World> MakeNative(std::vector<std::string> flags) {
  return std::make_unique<World>(std::move(flags));
}

}  // namespace

bool World::Start() {
  daemon_ = std::make_unique<Daemon>(&folder_, flags_);
  if (!daemon_->started()) return false;
  client_ = std::make_unique<Client>(daemon_->address(), instance());
  if (!StartEngine()) return false;
  events_ = std::make_unique<EventRecorder>(client_.get());
  return true;
}

void World::Stop() { EXPECT_EQ(daemon_->Stop(), 0) << daemon_->Log(); }

void World::Crash() { daemon_->Kill(); }

std::vector<Backend> Backends() { return {{"Native", &MakeNative}}; }

}  // namespace tidemark::test
