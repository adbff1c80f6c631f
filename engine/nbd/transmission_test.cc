// What each command of the protocol does and answers, judged by libnbd, and how requests of one
// connection run beside each other.
#include "engine/nbd/transmission.h"

#include <errno.h>
#include <gtest/gtest.h>

#include <atomic>
#include <random>

#include "engine/base/error.h"
#include "engine/nbd/server.h"
#include "engine/nbd/testing/folder.h"
#include "engine/nbd/testing/guest.h"
#include "engine/nbd/testing/raw_client.h"
#include "engine/storage/failing_storage.h"
#include "engine/storage/memory_storage.h"
#include "engine/storage/slow_storage.h"

namespace tidemark::nbd {
namespace {

constexpr uint64_t kDiskBytes = 40 * 1024 * 1024;
using Kind = Guest::ReadChunk::Kind;

// Remembers how it was called.
class RecordingStorage final : public storage::ForwardingStorage {
 public:
  using ForwardingStorage::ForwardingStorage;
  absl::Status WriteZeroes(Range range, storage::ZeroOptions options) override {
    zero_options_ = options;
    return ForwardingStorage::WriteZeroes(range, options);
  }
  absl::Status Discard(Range range) override {
    discarded_ = range;
    return ForwardingStorage::Discard(range);
  }
  absl::Status Flush() override {
    flush_count_++;
    return ForwardingStorage::Flush();
  }
  storage::Limits limits() const override { return limits_; }

  storage::ZeroOptions zero_options_;
  Range discarded_;
  std::atomic<int> flush_count_ = 0;
  storage::Limits limits_;
};

class TransmissionTest : public testing::Test {
 protected:
  TransmissionTest()
      : disk_(std::make_shared<storage::MemoryStorage>(kDiskBytes)),
        slow_(std::make_shared<storage::SlowStorage>(disk_)),
        failing_(std::make_shared<storage::FailingStorage>(slow_)),
        recording_(std::make_shared<RecordingStorage>(failing_)) {
    Server::Options options;
    options.address = address_;
    auto server = Server::Start(options);
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    AddExport("disk", /*writable=*/true);
    AddExport("frozen", /*writable=*/false);
  }

  void AddExport(const std::string& name, bool writable) {
    Export exported;
    exported.name = name;
    exported.storage = recording_;
    exported.writable = writable;
    EXPECT_TRUE(server_->AddExport(exported).ok());
  }
  void Connect(Guest* guest, const std::string& name = "disk", bool structured = true) {
    Guest::Wishes wishes;
    wishes.export_name = name;
    wishes.structured = structured;
    ASSERT_EQ(guest->Connect(address_, wishes), 0) << guest->error();
  }
  void Fail(storage::Verb verb, absl::Status status) {
    storage::FailureRule rule;
    rule.status = std::move(status);
    rule.verb = verb;
    failing_->AddRule(rule);
  }

  const UnixAddress address_{"nbd.sock"};
  TestFolder folder_;
  const std::shared_ptr<storage::MemoryStorage> disk_;
  const std::shared_ptr<storage::SlowStorage> slow_;
  const std::shared_ptr<storage::FailingStorage> failing_;
  const std::shared_ptr<RecordingStorage> recording_;
  std::unique_ptr<Server> server_;
};

TEST_F(TransmissionTest, AWritableExportAdvertisesAllItCan) {
  Guest guest;
  Connect(&guest);
  nbd_handle* const handle = guest.handle();
  EXPECT_EQ(nbd_get_size(handle), static_cast<int64_t>(kDiskBytes));
  EXPECT_EQ(nbd_is_read_only(handle), 0);
  EXPECT_EQ(nbd_can_flush(handle), 1);
  EXPECT_EQ(nbd_can_fua(handle), 1);
  EXPECT_EQ(nbd_can_df(handle), 1);
  EXPECT_EQ(nbd_can_cache(handle), 1);
  EXPECT_EQ(nbd_can_multi_conn(handle), 1);
  EXPECT_EQ(nbd_can_trim(handle), 1);
  EXPECT_EQ(nbd_can_zero(handle), 1);
  EXPECT_EQ(nbd_can_fast_zero(handle), 1);
  EXPECT_EQ(nbd_is_rotational(handle), 0);
  EXPECT_EQ(nbd_get_block_size(handle, LIBNBD_SIZE_MINIMUM), 1);
  EXPECT_EQ(nbd_get_block_size(handle, LIBNBD_SIZE_PREFERRED), 4096);
  EXPECT_EQ(nbd_get_block_size(handle, LIBNBD_SIZE_MAXIMUM), 32 * 1024 * 1024);
}

TEST_F(TransmissionTest, AReadOnlyExportAdvertisesNoChanges) {
  Guest guest;
  Connect(&guest, "frozen");
  nbd_handle* const handle = guest.handle();
  EXPECT_EQ(nbd_is_read_only(handle), 1);
  EXPECT_EQ(nbd_can_flush(handle), 1);
  EXPECT_EQ(nbd_can_fua(handle), 1);
  EXPECT_EQ(nbd_can_cache(handle), 1);
  EXPECT_EQ(nbd_can_multi_conn(handle), 1);
  EXPECT_EQ(nbd_can_trim(handle), 0);
  EXPECT_EQ(nbd_can_zero(handle), 0);
  EXPECT_EQ(nbd_can_fast_zero(handle), 0);
}

TEST_F(TransmissionTest, DfIsAdvertisedOnlyWithStructuredReplies) {
  Guest guest;
  Connect(&guest, "disk", /*structured=*/false);
  EXPECT_EQ(nbd_can_df(guest.handle()), 0);
}

TEST_F(TransmissionTest, AReadOnlyExportRefusesEveryChange) {
  for (const bool structured : {true, false}) {
    Guest guest;
    Connect(&guest, "frozen", structured);
    EXPECT_EQ(guest.Write(0, "x"), EPERM);
    EXPECT_EQ(guest.Write(0, std::string(100000, 'x')), EPERM);
    EXPECT_EQ(guest.Zero(0, 4096), EPERM);
    EXPECT_EQ(guest.Trim(0, 4096), EPERM);
    EXPECT_EQ(guest.Flush(), 0);
    EXPECT_EQ(guest.Read(0, 1), std::string(1, '\0'));
  }
}

TEST_F(TransmissionTest, RequestsPastTheEndAreRefusedAndTheConnectionLivesOn) {
  for (const bool structured : {true, false}) {
    Guest guest;
    Connect(&guest, "disk", structured);
    const uint64_t wraps = UINT64_MAX - 511;
    EXPECT_EQ(guest.TryRead(kDiskBytes - 1, 2), EINVAL);
    EXPECT_EQ(guest.TryRead(wraps, 1024), EINVAL);
    EXPECT_EQ(guest.Write(kDiskBytes - 1, "xy"), ENOSPC);
    EXPECT_EQ(guest.Write(wraps, std::string(1024, 'x')), ENOSPC);
    EXPECT_EQ(guest.Zero(kDiskBytes, 1), ENOSPC);
    EXPECT_EQ(guest.Trim(kDiskBytes - 4096, 8192), EINVAL);
    EXPECT_EQ(guest.Cache(kDiskBytes, 1), EINVAL);
    EXPECT_EQ(guest.Write(kDiskBytes - 1, "z"), 0);
    EXPECT_EQ(guest.Read(kDiskBytes - 1, 1), "z");
    EXPECT_EQ(disk_->size_bytes(), kDiskBytes);
  }
}

TEST_F(TransmissionTest, ReadsOfUpTo32MebibytesAreAnsweredAndLongerOnesRefused) {
  Guest guest;
  Connect(&guest);
  const std::string data(32 * 1024 * 1024, 'd');
  EXPECT_EQ(guest.Write(1, data), 0);
  EXPECT_EQ(guest.Read(1, data.size()), data);
  EXPECT_EQ(guest.TryRead(0, 32 * 1024 * 1024 + 1), EINVAL);
  EXPECT_EQ(guest.Read(0, 2), std::string("\0d", 2));
}

TEST_F(TransmissionTest, EmptyRequestsSucceed) {
  for (const bool structured : {true, false}) {
    Guest guest;
    Connect(&guest, "disk", structured);
    EXPECT_EQ(guest.Write(0, ""), 0);
    EXPECT_EQ(guest.TryRead(0, 0), 0);
    EXPECT_EQ(guest.Zero(0, 0), 0);
    EXPECT_EQ(guest.Trim(0, 0), 0);
    EXPECT_EQ(guest.Cache(0, 0), 0);
  }
}

TEST_F(TransmissionTest, FuaMakesAChangeDurableBeforeItsAnswer) {
  Guest guest;
  Connect(&guest);
  EXPECT_EQ(guest.Write(0, "x"), 0);
  EXPECT_EQ(recording_->flush_count_, 0);
  EXPECT_EQ(guest.Write(0, "x", LIBNBD_CMD_FLAG_FUA), 0);
  EXPECT_EQ(recording_->flush_count_, 1);
  EXPECT_EQ(guest.Zero(0, 512, LIBNBD_CMD_FLAG_FUA), 0);
  EXPECT_EQ(guest.Trim(0, 512, LIBNBD_CMD_FLAG_FUA), 0);
  EXPECT_EQ(recording_->flush_count_, 3);
  EXPECT_EQ(guest.Flush(), 0);
  EXPECT_EQ(recording_->flush_count_, 4);
  Fail(storage::Verb::kFlush, absl::UnknownError("disk on fire"));
  EXPECT_EQ(guest.Write(0, "x", LIBNBD_CMD_FLAG_FUA), EIO);
}

TEST_F(TransmissionTest, ZeroingHandsItsFlagsToTheStorage) {
  Guest guest;
  Connect(&guest);
  EXPECT_EQ(guest.Write(0, std::string(8192, 'x')), 0);
  EXPECT_EQ(guest.Zero(0, 4096), 0);
  EXPECT_TRUE(recording_->zero_options_.may_unmap);
  EXPECT_FALSE(recording_->zero_options_.fast_only);
  EXPECT_EQ(guest.Zero(0, 4096, LIBNBD_CMD_FLAG_NO_HOLE), 0);
  EXPECT_FALSE(recording_->zero_options_.may_unmap);
  EXPECT_EQ(guest.Read(0, 8192), std::string(4096, '\0') + std::string(4096, 'x'));
  Fail(storage::Verb::kWriteZeroes, absl::UnimplementedError("would be slow"));
  EXPECT_EQ(guest.Zero(0, 4096, LIBNBD_CMD_FLAG_FAST_ZERO), ENOTSUP);
  EXPECT_TRUE(recording_->zero_options_.fast_only);
}

TEST_F(TransmissionTest, ChangesWithoutDataMayBeLongerThanAnyBuffer) {
  Guest guest;
  Connect(&guest);
  EXPECT_EQ(guest.Write(0, std::string(4096, 'x')), 0);
  EXPECT_EQ(guest.Zero(0, kDiskBytes), 0);
  EXPECT_EQ(guest.Trim(0, kDiskBytes), 0);
  EXPECT_EQ(recording_->discarded_, (Range{0, kDiskBytes}));
  EXPECT_EQ(guest.Read(0, 4096), std::string(4096, '\0'));
}

TEST_F(TransmissionTest, CachingReadsTheRange) {
  Guest guest;
  Connect(&guest);
  EXPECT_EQ(guest.Cache(123, 3 * 1024 * 1024), 0);
  Fail(storage::Verb::kRead, absl::UnknownError("unreadable"));
  EXPECT_EQ(guest.Cache(123, 3 * 1024 * 1024), EIO);
}

TEST_F(TransmissionTest, ErrorsOfTheStorageReachTheClientAsTheErrnoNearestToThem) {
  const std::pair<absl::Status, int> cases[] = {
      {Error(Reason::kNoSpace, "no space left in pool 7"), ENOSPC},
      {Error(Reason::kIoError, "sector 7 is gone"), EIO},
      {Error(Reason::kImageCorrupt, "table 7 is broken"), EIO},
      {Error(Reason::kNodeReadOnly, "node 7 is read-only"), EPERM},
      {Error(Reason::kShuttingDown, "7 goes home"), ESHUTDOWN},
  };
  Guest guest;
  Connect(&guest);
  for (const auto& [status, code] : cases) {
    Fail(storage::Verb::kWrite, status);
    Fail(storage::Verb::kRead, status);
    EXPECT_EQ(guest.Write(0, "x"), code) << status;
    EXPECT_EQ(guest.TryRead(0, 1), code) << status;
    EXPECT_EQ(guest.TryRead(kDiskBytes / 2, 1024 * 1024), 0) << "a hole needs no reading";
    failing_->ClearRules();
    EXPECT_EQ(guest.Write(0, "x"), 0) << "one failure is not the end";
  }
}

TEST_F(TransmissionTest, AStructuredErrorCarriesTheTextOfTheStorage) {
  Fail(storage::Verb::kRead, Error(Reason::kIoError, "sector 7 is gone"));
  RawClient client(address_.path);
  ASSERT_TRUE(client.Greet());
  ASSERT_TRUE(client.Send(RawClient::Option(8, "")));
  ASSERT_TRUE(client.ReceiveOptionReply().has_value());
  ASSERT_TRUE(client.ChooseExport("disk"));
  ASSERT_TRUE(client.Send(RawClient::Request(0, 0, 77, 0, 512)));
  const std::string text = "sector 7 is gone";
  const auto size = static_cast<uint32_t>(text.size());
  const std::string expected = RawClient::U32(0x668e33ef) + RawClient::U16(1) +
                               RawClient::U16(0x8001) + RawClient::U64(77) +
                               RawClient::U32(6 + size) + RawClient::U32(EIO) +
                               RawClient::U16(static_cast<uint16_t>(size)) + text;
  EXPECT_EQ(client.Receive(expected.size()), expected);
}

TEST_F(TransmissionTest, HolesAreToldInsteadOfSent) {
  Guest guest;
  Connect(&guest);
  constexpr uint64_t kUnit = 256 * 1024;
  EXPECT_EQ(guest.Write(kUnit, std::string(kUnit, 'x')), 0);
  EXPECT_EQ(guest.ReadChunks(0, 4 * kUnit),
            (std::vector<Guest::ReadChunk>{{Kind::kHole, 0, kUnit},
                                           {Kind::kData, kUnit, kUnit},
                                           {Kind::kHole, 2 * kUnit, 2 * kUnit}}));
  EXPECT_EQ(guest.ReadChunks(0, 4 * kUnit, LIBNBD_CMD_FLAG_DF),
            (std::vector<Guest::ReadChunk>{{Kind::kData, 0, 4 * kUnit}}));
  EXPECT_EQ(guest.Read(0, 4 * kUnit),
            std::string(kUnit, '\0') + std::string(kUnit, 'x') + std::string(2 * kUnit, '\0'));
}

TEST_F(TransmissionTest, AReadWithMoreHolesThanChunksIsStillRight) {
  Guest guest;
  Connect(&guest);
  std::string model(2 * 1024 * 1024, '\0');
  for (uint64_t offset = 0; offset < model.size(); offset += 8192) {
    EXPECT_EQ(guest.Write(offset, std::string(4096, 'x')), 0);
    model.replace(offset, 4096, 4096, 'x');
  }
  EXPECT_EQ(guest.Read(0, model.size()), model);
  EXPECT_LE(guest.ReadChunks(0, model.size()).size(), kReadChunksMax);
}

TEST_F(TransmissionTest, AnAlignmentThatTheStorageAsksForIsAdvertisedAndEnforced) {
  recording_->limits_.request_alignment_bytes = 512;
  Guest guest;
  Connect(&guest);
  EXPECT_EQ(nbd_get_block_size(guest.handle(), LIBNBD_SIZE_MINIMUM), 512);
  EXPECT_EQ(guest.TryRead(1, 512), EINVAL);
  EXPECT_EQ(guest.Write(512, std::string(100, 'x')), EINVAL);
  EXPECT_EQ(guest.Write(512, std::string(512, 'x')), 0);
}

TEST_F(TransmissionTest, ASlowWriteHoldsUpNoOtherRequest) {
  Guest guest;
  Connect(&guest);
  slow_->Hold(storage::Verb::kWrite);
  const std::string data(4096, 'x');
  const int64_t write = guest.StartWrite(0, data);
  slow_->AwaitHeld(1);
  EXPECT_EQ(guest.TryRead(8192, 4096), 0) << "while the write stands still";
  EXPECT_EQ(guest.Flush(), 0);
  EXPECT_EQ(slow_->held_count(), 1);
  slow_->Release();
  EXPECT_EQ(guest.Await(write), 0);
}

TEST_F(TransmissionTest, AsManyWritesOverlapAsThereAreThreads) {
  Guest guest;
  Connect(&guest);
  slow_->Hold(storage::Verb::kWrite);
  const std::string data(4096, 'x');
  std::vector<int64_t> cookies;
  for (int i = 0; i < 2 * kThreadsPerConnectionMax; ++i) {
    cookies.push_back(guest.StartWrite(4096 * static_cast<uint64_t>(i), data));
  }
  slow_->AwaitHeld(kThreadsPerConnectionMax);
  EXPECT_EQ(slow_->held_count(), kThreadsPerConnectionMax);
  slow_->Release();
  for (const int64_t cookie : cookies) EXPECT_EQ(guest.Await(cookie), 0);
}

TEST_F(TransmissionTest, RequestsSentBeforeLeavingAreCarriedOut) {
  {
    Guest guest;
    Connect(&guest);
    const std::string data(4096, 'x');
    for (uint64_t i = 0; i < 50; ++i) guest.StartWrite(i * 4096, data);
    guest.Leave();
  }
  server_->Stop();  // The client is gone when this returns.
  EXPECT_EQ(disk_->Contents({0, 50 * 4096}), std::string(50 * 4096, 'x'));
}

TEST_F(TransmissionTest, RandomRequestsInFlightTogetherGiveWhatAStringWouldGive) {
  std::mt19937_64 random(20261122);
  Guest guest;
  Connect(&guest);
  constexpr uint64_t kModelBytes = 4 * 1024 * 1024;
  std::string model(kModelBytes, '\0');
  for (int round = 0; round < 60; ++round) {
    // Disjoint stretches, so that the order within a round does not matter.
    std::vector<std::string> data;
    std::vector<int64_t> cookies;
    data.reserve(32);
    uint64_t offset = random() % 5000;
    while (data.size() < 32) {
      const uint64_t length = random() % 3 == 0 ? random() % 200000 : random() % 9000;
      if (offset + length > kModelBytes) break;
      data.emplace_back(length, static_cast<char>(random()));
      cookies.push_back(guest.StartWrite(offset, data.back()));
      model.replace(offset, length, data.back());
      offset += length + random() % 20000;
    }
    for (const int64_t cookie : cookies) ASSERT_EQ(guest.Await(cookie), 0) << guest.error();
    const uint64_t from = random() % kModelBytes;
    const uint64_t length = random() % (kModelBytes - from);
    ASSERT_TRUE(guest.Read(from, length) == model.substr(from, length)) << "round " << round;
  }
  EXPECT_TRUE(disk_->Contents({0, kModelBytes}) == model);
}

}  // namespace
}  // namespace tidemark::nbd
