#include "adapters/qmp/monitor_address.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "adapters/qmp/testing/socket_folder.h"
#include "engine/base/error.h"
#include "engine/base/error_metadata.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark::qmp {
namespace {

using ::testing::HasSubstr;

TEST(MonitorAddressTest, TextsAreReadAndWrittenAlike) {
  for (const char* text : {"unix:/run/vm/a b:c.sock", "tcp:127.0.0.1:4444", "tcp:[::1]:4444",
                           "tcp:host.example:1", "vsock:3:4294967295"}) {
    const auto address = MonitorAddress::Parse(text);
    ASSERT_TRUE(address.ok()) << address.status();
    EXPECT_EQ(address->ToString(), text);
    EXPECT_EQ(*address, *MonitorAddress::Parse(address->ToString()));
  }
  EXPECT_EQ(MonitorAddress::Parse("tcp:[10.0.0.1]:0080")->ToString(), "tcp:10.0.0.1:80");
}

TEST(MonitorAddressTest, WhatIsNoAddressIsRefusedWithTheReason) {
  const std::pair<std::string, const char*> cases[] = {
      {"", "begins with"},
      {"/run/a.sock", "begins with"},
      {"unix:a.sock", "absolute"},
      {"unix:", "absolute"},
      {std::string("unix:/a\0b", 9), "NUL"},
      {"unix:/" + std::string(107, 'a'), "at most 107 bytes, not 108"},
      {"tcp:host", "port is missing"},
      {"tcp::1", "host is missing"},
      {"tcp:host:0", "1 to 65535"},
      {"tcp:host:65536", "1 to 65535"},
      {"tcp:host:http", "1 to 65535"},
      {"tcp:::1:4444", "brackets"},
      {"tcp:[::1:4444", "not closed"},
      {"vsock:3", "two numbers"},
      {"vsock:-1:2", "two numbers"},
      {"vsock:3:4294967296", "two numbers"},
  };
  for (const auto& [text, why] : cases) {
    const auto address = MonitorAddress::Parse(text);
    ASSERT_FALSE(address.ok()) << text;
    EXPECT_EQ(address.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(address.status().message()), HasSubstr(why));
  }
}

TEST(MonitorAddressTest, ThePathOf107BytesIsTheLongest) {
  EXPECT_TRUE(MonitorAddress::Parse("unix:/" + std::string(106, 'a')).ok());
}

TEST(MonitorAddressTest, OnlyNamesAreLookedUp) {
  EXPECT_FALSE(NeedsLookup(*MonitorAddress::Parse("unix:/a")));
  EXPECT_FALSE(NeedsLookup(*MonitorAddress::Parse("tcp:127.0.0.1:1")));
  EXPECT_FALSE(NeedsLookup(*MonitorAddress::Parse("tcp:[::1]:1")));
  EXPECT_FALSE(NeedsLookup(*MonitorAddress::Parse("vsock:2:1")));
  EXPECT_TRUE(NeedsLookup(*MonitorAddress::Parse("tcp:localhost:1")));
}

class ConnectTest : public ::testing::Test {
 protected:
  ~ConnectTest() override {
    if (listener_ >= 0) close(listener_);
    for (int fd : connected_) close(fd);
  }

  // A socket that accepts nobody; bound only, if not `listens`.
  void MakeSocket(bool listens) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof(address.sun_path) - 1);
    listener_ = socket(AF_UNIX, SOCK_STREAM, 0);
    ASSERT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    if (listens) {
      ASSERT_EQ(listen(listener_, 0), 0);
    }
  }

  // How a connect fails; "connected" if it does not.
  std::string Cause(const MonitorAddress& address) {
    const auto targets = Lookup(address);
    if (!targets.ok()) return "no target";
    const auto connecting = StartConnect(targets->front(), address);
    absl::Status status = connecting.status();
    if (connecting.ok()) {
      connected_.push_back(connecting->fd);
      if (!connecting->done) {
        pollfd watched = {connecting->fd, POLLOUT, 0};
        poll(&watched, 1, 60'000);
        status = FinishConnect(connecting->fd, address);
      }
    }
    if (status.ok()) return "connected";
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(status.message()), HasSubstr(address.ToString()));
    return MetadataOf(status, "cause");
  }
  std::string Cause() { return Cause(*MonitorAddress::Parse("unix:" + path_)); }

  const SocketFolder folder_;
  const std::string path_ = folder_.File("qmp");
  int listener_ = -1;
  std::vector<int> connected_;
};

TEST_F(ConnectTest, AMissingSocketIsAbsent) { EXPECT_EQ(Cause(), "absent"); }

TEST_F(ConnectTest, ASocketThatNobodyListensOnRefuses) {
  MakeSocket(/*listens=*/false);
  EXPECT_EQ(Cause(), "refused");
}

TEST_F(ConnectTest, ASocketWithoutPermissionIsForbidden) {
  if (geteuid() == 0) GTEST_SKIP() << "root may connect to every socket";
  MakeSocket(/*listens=*/true);
  chmod(path_.c_str(), 0);
  EXPECT_EQ(Cause(), "forbidden");
}

TEST_F(ConnectTest, AFullQueueOfThoseWhoWaitIsBusy) {
  MakeSocket(/*listens=*/true);
  EXPECT_EQ(Cause(), "connected");
  EXPECT_EQ(Cause(), "busy");
}

TEST_F(ConnectTest, ATcpPortThatNobodyListensOnRefuses) {
  EXPECT_EQ(Cause(*MonitorAddress::Parse("tcp:127.0.0.1:1")), "refused");
}

}  // namespace
}  // namespace tidemark::qmp
