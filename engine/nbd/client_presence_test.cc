// A client that leaves takes its work with it: what was asked for it and not yet done is given up,
// but for changes.

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>

#include "engine/nbd/limits.h"
#include "engine/nbd/server.h"
#include "engine/nbd/testing/folder.h"
#include "engine/nbd/testing/guest.h"
#include "engine/storage/memory_storage.h"
#include "engine/storage/slow_storage.h"

namespace tidemark::nbd {
namespace {

constexpr uint64_t kUnit = 4096;
constexpr uint64_t kUnits = 4096;
constexpr uint64_t kDiskBytes = kUnit * kUnits;

// Every second unit is data; counts the looks and the bytes read.
class StripedStorage final : public storage::ForwardingStorage {
 public:
  StripedStorage() : ForwardingStorage(std::make_shared<storage::MemoryStorage>(kDiskBytes)) {}

  absl::StatusOr<storage::Extent> Map(Range range) override {
    ++looks;
    const uint64_t unit = range.offset_bytes / kUnit;
    storage::Extent extent;
    extent.range = range.Intersect({unit * kUnit, kUnit});
    if (unit % 2 == 0) extent.content = storage::Extent::Content::kZero;
    return extent;
  }
  absl::Status Read(uint64_t offset_bytes, storage::Bytes buffer) override {
    read_bytes += buffer.size();
    return next().Read(offset_bytes, buffer);
  }
  std::atomic<uint64_t> looks = 0;
  std::atomic<uint64_t> read_bytes = 0;
};

class ClientPresenceTest : public testing::Test {
 protected:
  ClientPresenceTest() {
    Server::Options options;
    options.address = address_;
    server_ = *Server::Start(options);
    Export exported;
    exported.name = "disk";
    exported.storage = slow_;
    EXPECT_TRUE(server_->AddExport(exported).ok());
    Guest::Wishes wishes;
    wishes.export_name = "disk";
    wishes.contexts = {"base:allocation"};
    EXPECT_EQ(guest_->Connect(address_, wishes), 0) << guest_->error();
  }
  // The client leaves while its request is held; then that goes on.
  void LeaveAtOnce() {
    slow_->AwaitHeld(1);
    guest_ = nullptr;
    slow_->Release();
    // Returns when nothing of the client is in flight.
    server_->Stop();
  }

  const UnixAddress address_{"nbd.sock"};
  TestFolder folder_;
  const std::shared_ptr<StripedStorage> striped_ = std::make_shared<StripedStorage>();
  const std::shared_ptr<storage::SlowStorage> slow_ =
      std::make_shared<storage::SlowStorage>(striped_);
  std::unique_ptr<Server> server_;
  std::unique_ptr<Guest> guest_ = std::make_unique<Guest>();
};

TEST_F(ClientPresenceTest, BlockStatusEndsWithItsClient) {
  slow_->Hold(storage::Verb::kMap);
  const auto ignore = [](void*, const char*, uint64_t, uint32_t*, size_t, int*) { return 0; };
  ASSERT_GE(nbd_aio_block_status(guest_->handle(), kDiskBytes, 0,
                                 nbd_extent_callback{.callback = ignore}, NBD_NULL_COMPLETION, 0),
            0);
  LeaveAtOnce();
  EXPECT_LE(striped_->looks, static_cast<uint64_t>(kPiecesPerPresenceCheck));
}

TEST_F(ClientPresenceTest, AReadThatIsCutEndsWithItsClient) {
  std::string text(kPayloadBytesMax < kDiskBytes ? kPayloadBytesMax : kDiskBytes, '?');
  slow_->Hold(storage::Verb::kRead);
  ASSERT_GE(guest_->StartRead(0, &text), 0);
  LeaveAtOnce();
  EXPECT_LE(striped_->read_bytes, text.size() / 2);
}

TEST_F(ClientPresenceTest, CachingEndsWithItsClient) {
  slow_->Hold(storage::Verb::kRead);
  ASSERT_GE(nbd_aio_cache(guest_->handle(), kDiskBytes, 0, NBD_NULL_COMPLETION, 0), 0);
  LeaveAtOnce();
  EXPECT_EQ(striped_->read_bytes, kBytesPerPresenceCheck);
}

TEST_F(ClientPresenceTest, WhoStaysIsAnsweredInFull) {
  const Guest::Extents extents = guest_->Status("base:allocation", 0, kDiskBytes);
  EXPECT_EQ(extents.size(), kUnits);
  EXPECT_EQ(guest_->Cache(0, kDiskBytes), 0);
  EXPECT_GE(striped_->read_bytes, kDiskBytes);
}

}  // namespace
}  // namespace tidemark::nbd
