// What clients can make the service hold: there is a bound for all of them together, whoever
// reaches it is refused, and the others go on.
#include <libnbd.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "gtest/gtest.h"
#include "tests/faults/deaf_client.h"
#include "tests/faults/half_requests.h"
#include "tests/support/client.h"
#include "tests/support/daemon.h"
#include "tests/support/proc_file.h"
#include "tests/support/temp_folder.h"
#include "tidemark/block/v1/bitmap.pb.h"
#include "tidemark/block/v1/event.grpc.pb.h"
#include "tidemark/block/v1/export.pb.h"
#include "tidemark/block/v1/node.pb.h"

namespace tidemark::test {
namespace {

using namespace block::v1;  // NOLINT: a test about requests.

// The least that --memory_max may be, of which gRPC has an eighth for what is still coming in.
constexpr char kMemoryMax[] = "--memory_max=128M";
constexpr int64_t kMemoryMaxKib = 128 << 10;

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kMemoryIsOurs = false;  // What is freed is kept for a while.
#else
constexpr bool kMemoryIsOurs = true;
#endif

class MemoryTest : public testing::Test {
 protected:
  void SetUp() override {
    daemon_ = std::make_unique<Daemon>(&folder_, std::vector<std::string>{kMemoryMax});
    ASSERT_TRUE(daemon_->started()) << daemon_->Log();
  }

  // Whether a client that does nothing wrong is served; its first connections may be given up with
  // those of others.
  bool IsServed() {
    Client client(daemon_->address());
    return client.WaitUntilServing(absl::Seconds(60));
  }

  std::string SocketPath() const { return daemon_->address().substr(std::string("unix:").size()); }
  int64_t ResidentKibNow() { return ResidentKib(daemon_->process().pid()); }

  TempFolder folder_;
  std::unique_ptr<Daemon> daemon_;
};

TEST_F(MemoryTest, RequestsThatAreNeverSentToTheirEndAreGivenUp) {
  constexpr int kConnections = 100;
  constexpr size_t kRequestBytes = 4'000'000;
  const int64_t before_kib = ResidentKibNow();
  std::vector<std::unique_ptr<HalfRequests>> clients;
  for (int i = 0; i < kConnections; ++i) {
    clients.push_back(std::make_unique<HalfRequests>(
        SocketPath(), "/tidemark.block.v1.NodeService/BlockdevAdd", 1, kRequestBytes));
  }
  // All that it lets them send: it takes no more, or has ended them.
  const uint64_t goal_bytes = uint64_t{kConnections} * kRequestBytes / 4;
  uint64_t sent_bytes = 0;
  int ended = 0;
  int64_t most_kib = 0;
  while (sent_bytes < goal_bytes && ended < kConnections / 2) {
    sent_bytes = 0;
    ended = 0;
    for (const auto& client : clients) {
      client->Pump();
      sent_bytes += client->sent_bytes();
      ended += client->ended();
    }
    most_kib = std::max(most_kib, ResidentKibNow());
  }
  EXPECT_GT(ended, 0) << "it holds " << (sent_bytes >> 20) << " MiB of half requests";
  EXPECT_TRUE(IsServed()) << daemon_->Log();
  if (kMemoryIsOurs) {
    EXPECT_LT(most_kib - before_kib, kMemoryMaxKib / 2);
  }
  EXPECT_EQ(daemon_->Stop(), 0);
}

TEST_F(MemoryTest, AClientThatReadsNothingHoldsLittleAndDoesNotHoldUpAStop) {
  Client client(daemon_->address());
  for (int i = 0; i < 200; ++i) {
    BlockdevAddRequest add;
    add.mutable_options()->set_node_name(absl::StrCat("node", i));
    add.mutable_options()->mutable_null_co()->set_size(1 << 20);
    ASSERT_TRUE(client.Invoke(add).ok());
  }
  const int64_t before_kib = ResidentKibNow();
  // Each reply has some 60 KiB: all of them would be several times what the service may hold.
  constexpr int kRequests = 900;
  std::vector<std::unique_ptr<DeafClient>> deaf;
  for (int i = 0; i < 6; ++i) {
    deaf.push_back(std::make_unique<DeafClient>(
        SocketPath(), "/tidemark.block.v1.NodeService/QueryNamedBlockNodes", kRequests));
  }
  EXPECT_TRUE(IsServed());
  if (kMemoryIsOurs) {
    EXPECT_LT(ResidentKibNow() - before_kib, kMemoryMaxKib);
  }
  EXPECT_EQ(daemon_->Stop(), 0) << daemon_->Log();
}

// Each of its four parts is a quarter of the flag, as its error says.
TEST_F(MemoryTest, BitmapsHaveAQuarterOfIt) {
  constexpr uint64_t kSizeBytes = uint64_t{8} << 30;
  Client client(daemon_->address());
  BlockdevAddRequest add;
  add.mutable_options()->set_node_name("disk");
  add.mutable_options()->mutable_null_co()->set_size(kSizeBytes);
  ASSERT_TRUE(client.Invoke(add).ok());
  NbdServerStartRequest start;
  start.mutable_addr()->mutable_unix_socket()->set_path(folder_.File("nbd"));
  ASSERT_TRUE(client.Invoke(start).ok());
  BlockExportAddRequest disk;
  disk.set_id("export");
  disk.set_writable(true);
  disk.set_node_name("disk");
  disk.mutable_nbd()->set_name("disk");
  ASSERT_TRUE(client.Invoke(disk).ok());
  const auto add_bitmap = [&client](int number) {
    BlockDirtyBitmapAddRequest bitmap;
    bitmap.set_node("disk");
    bitmap.set_name(absl::StrCat("b", number));
    bitmap.set_granularity(512);
    return client.Invoke(bitmap).refusal;
  };
  constexpr int kBitmaps = 17;
  for (int i = 0; i < kBitmaps; ++i) ASSERT_TRUE(add_bitmap(i).ok());
  const std::unique_ptr<nbd_handle, decltype(&nbd_close)> guest(nbd_create(), &nbd_close);
  ASSERT_EQ(nbd_connect_uri(guest.get(),
                            absl::StrCat("nbd+unix:///disk?socket=", folder_.File("nbd")).c_str()),
            0)
      << nbd_get_error();
  // Nowhere is any of them all clean or all dirty: 2 MiB each, so 34.
  const std::string sector(512, 'x');
  for (uint64_t at = 0; at < kSizeBytes; at += 16 << 20) {
    ASSERT_EQ(nbd_pwrite(guest.get(), sector.data(), sector.size(), at, 0), 0) << nbd_get_error();
  }
  const Refusal refused = add_bitmap(kBitmaps);
  EXPECT_EQ(refused.reason, "LIMIT_REACHED") << refused;
  EXPECT_THAT(refused.message, testing::HasSubstr(absl::StrCat(kMemoryMaxKib * 1024 / 4)));
  EXPECT_EQ(daemon_->Stop(), 0);
}

TEST_F(MemoryTest, WatchersWithVeryLongFiltersAreRefused) {
  Client client(daemon_->address());
  WatchEventsRequest request;
  for (int i = 0; i < 99'000; ++i) request.add_job_ids(absl::StrCat("job", i));
  grpc::ClientContext context;
  const auto watch = EventService::NewStub(client.channel())->WatchEvents(&context, request);
  WatchEventsResponse response;
  EXPECT_FALSE(watch->Read(&response));
  const grpc::Status end = watch->Finish();
  EXPECT_EQ(end.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(end.error_message(), testing::HasSubstr("99000 elements"));
  EXPECT_TRUE(IsServed());
  EXPECT_EQ(daemon_->Stop(), 0);
}

}  // namespace
}  // namespace tidemark::test
