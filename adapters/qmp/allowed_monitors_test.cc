#include "adapters/qmp/allowed_monitors.h"

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "engine/base/error.h"
#include "gtest/gtest.h"

namespace tidemark::qmp {
namespace {

bool Allows(const std::vector<std::string>& texts, const std::string& address) {
  const auto allowed = AllowedMonitors::Create(texts);
  EXPECT_TRUE(allowed.ok()) << allowed.status();
  return allowed.ok() && allowed->Check(*MonitorAddress::Parse(address)).ok();
}

TEST(AllowedMonitors, AreAllUnlessSomeAreNamed) {
  EXPECT_TRUE(AllowedMonitors().Check(*MonitorAddress::Parse("tcp:h:1")).ok());
  EXPECT_FALSE(Allows({}, "tcp:h:1"));
  EXPECT_FALSE(Allows({}, "vsock:3:4444"));
  EXPECT_TRUE(Allows({"other", "*"}, "tcp:h:1"));
  EXPECT_TRUE(Allows({}, "unix:/run/vm.qmp")) << "that is for the image roots to say";
}

TEST(AllowedMonitors, AHostIsAllowedAtOnePortOrAtAll) {
  EXPECT_TRUE(Allows({"h:1"}, "tcp:h:1"));
  EXPECT_FALSE(Allows({"h:1"}, "tcp:h:2"));
  EXPECT_TRUE(Allows({"h"}, "tcp:h:2"));
  EXPECT_FALSE(Allows({"h"}, "tcp:i:2"));
  EXPECT_TRUE(Allows({"tcp:h:1"}, "tcp:h:1"));
  EXPECT_TRUE(Allows({"vsock:3:4444"}, "vsock:3:4444"));
  EXPECT_FALSE(Allows({"vsock:3:4444"}, "vsock:3:4445"));
  EXPECT_TRUE(Allows({"vsock:3"}, "vsock:3:4445"));
  EXPECT_FALSE(Allows({"vsock:3"}, "vsock:4:4444"));
  EXPECT_FALSE(Allows({"3:4444"}, "vsock:3:4444")) << "that is a host";
}

TEST(AllowedMonitors, NumbersAreComparedAsNumbersAndNamesAsNamesAndNothingIsLookedUp) {
  EXPECT_TRUE(Allows({"[::1]:4444"}, "tcp:[0:0::1]:4444"));
  EXPECT_TRUE(Allows({"[::1]"}, "tcp:[::1]:1"));
  EXPECT_TRUE(Allows({"Host.Example"}, "tcp:host.example:1"));
  EXPECT_FALSE(Allows({"127.0.0.1"}, "tcp:localhost:1"));
  EXPECT_FALSE(Allows({"localhost"}, "tcp:127.0.0.1:1"));
  EXPECT_FALSE(Allows({"127.0.0.1"}, "tcp:127.1:1")) << "a spelling that only resolvers know";
}

TEST(AllowedMonitors, ARefusalNamesTheAddressAndTheRemedy) {
  for (const std::vector<std::string>& texts : {std::vector<std::string>{}, {"other"}}) {
    const absl::Status status =
        AllowedMonitors::Create(texts)->Check(*MonitorAddress::Parse("tcp:10.0.0.1:22"));
    EXPECT_TRUE(HasReason(status, Reason::kPathForbidden)) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), "'tcp:10.0.0.1:22'")) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), "--instance_address 10.0.0.1:22")) << status;
  }
}

TEST(AllowedMonitors, WhatIsNoAddressIsRefused) {
  for (const char* bad : {"", ":1", "h:", "h:x", "h:0", "h:65536", "::1", "[::1", "[::1]x", "[]:1",
                          "vsock:", "vsock:x", "vsock:3:", "vsock:[3]", "unix:/a", "h:1:2"}) {
    EXPECT_EQ(AllowedMonitors::Create({bad}).status().code(), absl::StatusCode::kInvalidArgument)
        << bad;
  }
}

}  // namespace
}  // namespace tidemark::qmp
