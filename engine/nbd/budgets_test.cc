// What many clients together may make a server hold: memory and threads.
#include "engine/nbd/budgets.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "engine/nbd/protocol.h"
#include "engine/nbd/server.h"
#include "engine/nbd/testing/folder.h"
#include "engine/nbd/testing/guest.h"
#include "engine/nbd/testing/raw_client.h"
#include "engine/storage/memory_storage.h"
#include "engine/storage/slow_storage.h"

namespace tidemark::nbd {
namespace {

constexpr uint32_t kMiB = 1024 * 1024;
constexpr uint64_t kDiskBytes = 8 * kMiB;

class BudgetsTest : public testing::Test {
 protected:
  void Start(uint64_t memory_bytes, uint64_t helper_count, absl::Duration stalled_client_max) {
    memory_ = std::make_unique<Budget>(memory_bytes);
    helpers_ = std::make_unique<Budget>(helper_count);
    Server::Options options;
    options.address = address_;
    options.memory = memory_.get();
    options.helpers = helpers_.get();
    options.stalled_client_max = stalled_client_max;
    auto server = Server::Start(options);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    Export exported;
    exported.name = "disk";
    exported.storage = disk_;
    exported.writable = true;
    ASSERT_TRUE(server_->AddExport(exported).ok());
  }
  std::unique_ptr<RawClient> Connect() {
    auto client = std::make_unique<RawClient>(address_.path);
    EXPECT_TRUE(client->Greet());
    EXPECT_TRUE(client->ChooseExport("disk"));
    return client;
  }
  static std::string ReadRequest(uint32_t length) {
    return RawClient::Request(0, static_cast<uint16_t>(Command::kRead), 1, 0, length);
  }
  static void AwaitTaken(const Budget& budget, uint64_t least) {
    while (budget.taken() < least) absl::SleepFor(absl::Milliseconds(1));
  }

  // Until somebody stands in line, or nobody does.
  static void AwaitContended(const Budget& budget, bool contended) {
    while (budget.contended() != contended) absl::SleepFor(absl::Milliseconds(1));
  }

  const UnixAddress address_{"nbd.sock"};
  TestFolder folder_;
  std::shared_ptr<storage::Storage> disk_ = std::make_shared<storage::MemoryStorage>(kDiskBytes);
  std::unique_ptr<Budget> memory_;
  std::unique_ptr<Budget> helpers_;
  std::unique_ptr<Server> server_;
};

TEST_F(BudgetsTest, ClientsThatAskForMuchAndNeverReadHoldNoMoreThanTheBudgetAndAreDropped) {
  Start(8 * kMiB, 16, absl::Milliseconds(100));
  std::vector<std::unique_ptr<RawClient>> greedy;
  for (int i = 0; i < 12; ++i) {
    greedy.push_back(Connect());
    ASSERT_TRUE(greedy.back()->Send(ReadRequest(4 * kMiB) + ReadRequest(4 * kMiB)));
  }
  AwaitTaken(*memory_, 4 * kMiB);
  // Somebody with manners is in line behind them all, and gets what he asked for.
  Guest guest;
  Guest::Wishes wishes;
  wishes.export_name = "disk";
  ASSERT_EQ(guest.Connect(address_, wishes), 0) << guest.error();
  std::string bytes(4 * kMiB, 'x');
  EXPECT_EQ(nbd_pread(guest.handle(), bytes.data(), bytes.size(), 0, 0), 0) << nbd_get_error();
  EXPECT_EQ(std::count(bytes.begin(), bytes.end(), '\0'), 4 * kMiB);
  EXPECT_LE(memory_->taken(), memory_->limit());
}

TEST_F(BudgetsTest, AClientThatAnnouncesDataAndSendsNoneIsDroppedIfOthersWait) {
  Start(4 * kMiB, 16, absl::Milliseconds(100));
  const auto silent = Connect();
  ASSERT_TRUE(
      silent->Send(RawClient::Request(0, static_cast<uint16_t>(Command::kWrite), 1, 0, 4 * kMiB)));
  AwaitTaken(*memory_, 4 * kMiB);
  const auto polite = Connect();
  ASSERT_TRUE(polite->Send(ReadRequest(kMiB)));
  EXPECT_TRUE(polite->Receive(kSimpleReplyHeaderBytes + kMiB).has_value());
  EXPECT_EQ(silent->ReceiveToEnd(), "");
}

TEST_F(BudgetsTest, AServerThatStopsWaitsForNoneWhoStandsInLineForMemory) {
  Start(4 * kMiB, 16, absl::InfiniteDuration());
  const auto silent = Connect();
  ASSERT_TRUE(silent->Send(ReadRequest(4 * kMiB)));
  AwaitTaken(*memory_, 4 * kMiB);
  const auto in_line = Connect();
  ASSERT_TRUE(in_line->Send(ReadRequest(4 * kMiB)));
  AwaitContended(*memory_, true);
  server_->Stop();
  EXPECT_EQ(in_line->ReceiveToEnd(), "");
  EXPECT_EQ(memory_->taken(), 0u);
}

TEST_F(BudgetsTest, WhoLeavesWhileHeStandsInLineIsServedNoMore) {
  const auto held = std::make_shared<storage::SlowStorage>(disk_);
  held->Hold(storage::Verb::kRead);
  disk_ = held;
  Start(4 * kMiB, 16, absl::InfiniteDuration());
  const auto slow = Connect();
  ASSERT_TRUE(slow->Send(ReadRequest(4 * kMiB)));
  held->AwaitHeld(1);
  auto in_line = Connect();
  ASSERT_TRUE(in_line->Send(ReadRequest(4 * kMiB)));
  AwaitContended(*memory_, true);
  in_line = nullptr;
  AwaitContended(*memory_, false);
  EXPECT_EQ(held->held_count(), 1);
  held->Release();
  EXPECT_TRUE(slow->Receive(kSimpleReplyHeaderBytes + 4 * kMiB).has_value());
}

TEST_F(BudgetsTest, AClientThatTakesItsTimeIsKeptWhileNobodyWaits) {
  Start(4 * kMiB, 16, absl::ZeroDuration());
  const auto slow = Connect();
  ASSERT_TRUE(slow->Send(ReadRequest(4 * kMiB)));
  AwaitTaken(*memory_, 4 * kMiB);
  EXPECT_TRUE(slow->Receive(kSimpleReplyHeaderBytes + 4 * kMiB).has_value());
}

TEST_F(BudgetsTest, SmallRequestsNeedNoBudget) {
  Start(4 * kMiB, 16, absl::InfiniteDuration());
  const auto silent = Connect();
  ASSERT_TRUE(
      silent->Send(RawClient::Request(0, static_cast<uint16_t>(Command::kWrite), 1, 0, 4 * kMiB)));
  AwaitTaken(*memory_, 4 * kMiB);
  const auto polite = Connect();
  ASSERT_TRUE(polite->Send(ReadRequest(4096)));
  EXPECT_TRUE(polite->Receive(kSimpleReplyHeaderBytes + 4096).has_value());
}

TEST_F(BudgetsTest, HelpersAreBoundedForAllConnectionsAndEachStillServes) {
  const auto held = std::make_shared<storage::SlowStorage>(disk_);
  held->Hold(storage::Verb::kRead);
  disk_ = held;
  Start(64 * kMiB, 3, absl::InfiniteDuration());
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 6; ++i) {
    clients.push_back(Connect());
    for (int k = 0; k < 8; ++k) ASSERT_TRUE(clients.back()->Send(ReadRequest(4096)));
  }
  // One thread a connection, and three between them: the watch has sent all the help there is.
  held->AwaitHeld(6 + 3);
  EXPECT_EQ(helpers_->taken(), 3u);
  EXPECT_EQ(held->held_count(), 6 + 3);
  held->Release();
  for (const auto& client : clients) {
    EXPECT_TRUE(client->Receive(8 * (kSimpleReplyHeaderBytes + 4096)).has_value());
  }
}

TEST_F(BudgetsTest, AnIdleHelperGoesWhereThereIsNone) {
  const auto held = std::make_shared<storage::SlowStorage>(disk_);
  held->Hold(storage::Verb::kRead);
  disk_ = held;
  Start(64 * kMiB, 1, absl::InfiniteDuration());
  const auto first = Connect();
  for (int k = 0; k < 4; ++k) ASSERT_TRUE(first->Send(ReadRequest(4096)));
  AwaitTaken(*helpers_, 1);
  const auto second = Connect();
  for (int k = 0; k < 4; ++k) ASSERT_TRUE(second->Send(ReadRequest(4096)));
  AwaitContended(*helpers_, true);
  held->Release();
  // Who had the helper has nothing more for it to do, and gives it back.
  while (helpers_->contended() && helpers_->taken() > 0) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_TRUE(first->Receive(4 * (kSimpleReplyHeaderBytes + 4096)).has_value());
  EXPECT_TRUE(second->Receive(4 * (kSimpleReplyHeaderBytes + 4096)).has_value());
}

}  // namespace
}  // namespace tidemark::nbd
