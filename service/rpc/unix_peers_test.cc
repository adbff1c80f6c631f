#include "service/rpc/unix_peers.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "gtest/gtest.h"

namespace tidemark::rpc {
namespace {

constexpr int kFirst = 300;

// A descriptor as accept gives one.
int Accepted() { return open("/dev/null", O_RDONLY | O_CLOEXEC); }

bool IsOpen(int descriptor) { return fcntl(descriptor, F_GETFD) >= 0; }

class UnixPeersTest : public testing::Test {
 protected:
  ~UnixPeersTest() override {
    for (const int number : open_) close(number);
  }
  // -1 if refused.
  int Place(UnixPeers& peers, uid_t uid, gid_t gid = 0) {
    const auto number = peers.Place(Accepted(), {uid, gid});
    if (!number.ok()) return -1;
    open_.push_back(*number);
    return *number;
  }
  void Close(int number) {
    close(number);
    open_.erase(std::find(open_.begin(), open_.end(), number));
  }
  std::vector<int> open_;
};

TEST_F(UnixPeersTest, ANumberTellsItsUser) {
  UnixPeers peers({kFirst, 64});
  const int first = Place(peers, 1000, 7);
  const int second = Place(peers, 2000, 8);
  ASSERT_GE(first, kFirst);
  EXPECT_EQ(peers.Find(first)->uid, 1000u);
  EXPECT_EQ(peers.Find(first)->gid, 7u);
  EXPECT_EQ(peers.Find(second)->uid, 2000u);
  EXPECT_FALSE(peers.Find(kFirst - 1).has_value());
  EXPECT_FALSE(peers.Find(kFirst + 64).has_value());
  EXPECT_FALSE(peers.Find(kFirst + 63).has_value()) << "nobody had it";
  EXPECT_FALSE(peers.Find(0).has_value());
}

TEST_F(UnixPeersTest, ANumberThatOneUserHadDoesNotGoToAnotherAtOnce) {
  UnixPeers peers({kFirst, 64});
  std::vector<int> mine;
  for (int i = 0; i < 20; ++i) mine.push_back(Place(peers, 1000));
  for (const int number : mine) Close(number);
  for (int i = 0; i < 32; ++i) Place(peers, 2000);
  for (const int number : mine) EXPECT_EQ(peers.Find(number)->uid, 1000u);
  EXPECT_EQ(Place(peers, 2000), -1) << "what is free was another's";
  EXPECT_EQ(Place(peers, 3000), -1);
  EXPECT_GE(Place(peers, 1000), kFirst) << "whose it still is";
}

TEST_F(UnixPeersTest, NumbersOfUsersWhoHaveGoneAreAnothersAfterAWhile) {
  ManualClock clock;
  UnixPeers peers({kFirst, 32}, /*connections_per_user_max=*/32, clock);
  const int gone = Place(peers, 1000);
  const int connected = Place(peers, 2000);
  EXPECT_EQ(Place(peers, 3000), -1) << "all blocks are somebody's";
  Close(gone);
  clock.Advance(kUnixNumbersRest);
  EXPECT_EQ(Place(peers, 3000), -1) << "seen to be gone just now";
  EXPECT_EQ(peers.Find(gone)->uid, 1000u) << "calls may still ask";
  clock.Advance(kUnixNumbersRest);
  EXPECT_EQ(Place(peers, 3000), gone);
  EXPECT_EQ(peers.Find(gone)->uid, 3000u);
  EXPECT_EQ(peers.Find(connected)->uid, 2000u);
}

TEST_F(UnixPeersTest, AUserWhoComesBackInTimeKeepsTheNumbers) {
  ManualClock clock;
  UnixPeers peers({kFirst, 16}, /*connections_per_user_max=*/16, clock);
  Close(Place(peers, 1000));
  clock.Advance(kUnixNumbersRest);
  EXPECT_EQ(Place(peers, 2000), -1);
  Close(Place(peers, 1000));
  clock.Advance(kUnixNumbersRest);
  EXPECT_EQ(Place(peers, 2000), -1) << "a while after the last connection";
}

TEST_F(UnixPeersTest, OneUserCannotTakeAll) {
  UnixPeers peers({kFirst, 64}, /*connections_per_user_max=*/32);
  int taken = 0;
  while (Place(peers, 1000) >= 0) ++taken;
  EXPECT_EQ(taken, 32);
  EXPECT_GE(Place(peers, 2000), kFirst);
}

TEST_F(UnixPeersTest, NumbersThatAreInUseOtherwiseAreLeftAlone) {
  UnixPeers peers({kFirst, 32});
  const int other = Accepted();
  for (int i = 0; i < 20; ++i) open_.push_back(fcntl(other, F_DUPFD_CLOEXEC, kFirst));
  const int number = Place(peers, 1000);
  EXPECT_EQ(number, kFirst + 20);
  close(other);
}

TEST_F(UnixPeersTest, WhatIsRefusedIsClosed) {
  UnixPeers peers({kFirst, 16});
  for (int i = 0; i < 16; ++i) EXPECT_GE(Place(peers, 1000), 0);
  const int descriptor = Accepted();
  EXPECT_EQ(peers.Place(descriptor, {1000, 0}).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_FALSE(IsOpen(descriptor));
  EXPECT_FALSE(IsOpen(kFirst + 16));
}

TEST(UnixPeers, TheKernelSaysWhoConnected) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  const auto peer = UnixPeerOf(ends[0]);
  ASSERT_TRUE(peer.ok()) << peer.status();
  EXPECT_EQ(peer->uid, getuid());
  EXPECT_EQ(peer->gid, getgid());
  close(ends[0]);
  close(ends[1]);
  EXPECT_FALSE(UnixPeerOf(Accepted()).ok());
}

}  // namespace
}  // namespace tidemark::rpc
