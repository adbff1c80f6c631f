// Clients that mean no good: broken streams, lies about lengths, silence, and seeded nonsense. The
// server answers or hangs up; it never crashes, hangs, or holds more than its limits, and other
// clients never notice.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <fstream>
#include <random>
#include <thread>

#include "absl/strings/str_cat.h"
#include "engine/bitmap/dirty_bitmap.h"
#include "engine/nbd/limits.h"
#include "engine/nbd/server.h"
#include "engine/nbd/testing/folder.h"
#include "engine/nbd/testing/guest.h"
#include "engine/nbd/testing/raw_client.h"
#include "engine/storage/memory_storage.h"

namespace tidemark::nbd {
namespace {

constexpr uint64_t kDiskBytes = 64 * 1024 * 1024;
constexpr uint32_t kInvalid = 22;
constexpr uint16_t kRead = 0, kWrite = 1, kDisconnect = 2, kFlush = 3, kBlockStatus = 7;

class HostileTest : public testing::Test {
 protected:
  HostileTest() {
    Server::Options options;
    options.address = address_;
    server_ = *Server::Start(options);
    Export exported;
    exported.name = "disk";
    exported.storage = disk_;
    exported.writable = true;
    exported.allocation_depth = true;
    exported.bitmaps.push_back({"b", std::make_shared<bitmap::DirtyBitmap>(kDiskBytes, 65536)});
    EXPECT_TRUE(server_->AddExport(exported).ok());
  }
  ~HostileTest() override {
    Guest guest;
    Guest::Wishes wishes;
    wishes.export_name = "disk";
    EXPECT_EQ(guest.Connect(address_, wishes), 0) << "a good client is still served";
    EXPECT_EQ(guest.TryRead(0, 4096), 0);
  }

  void Open(RawClient& client) {
    ASSERT_TRUE(client.Greet());
    ASSERT_TRUE(client.ChooseExport("disk"));
  }

  const UnixAddress address_{"nbd.sock"};
  TestFolder folder_;
  const std::shared_ptr<storage::MemoryStorage> disk_ =
      std::make_shared<storage::MemoryStorage>(kDiskBytes);
  std::unique_ptr<Server> server_;
};

TEST_F(HostileTest, ARequestWithTheWrongMagicEndsTheConnection) {
  RawClient client(address_.path);
  Open(client);
  ASSERT_TRUE(client.Send(std::string(28, '\xff')));
  EXPECT_EQ(client.ReceiveToEnd(), "");
}

TEST_F(HostileTest, WhatCameBeforeBrokenBytesIsStillAnswered) {
  RawClient client(address_.path);
  Open(client);
  ASSERT_TRUE(client.Send(RawClient::Request(0, kFlush, 7, 0, 0) + std::string(28, 'x')));
  const auto reply = client.ReceiveSimpleReply();
  ASSERT_TRUE(reply.has_value());
  EXPECT_EQ(reply->cookie, 7u);
  EXPECT_EQ(client.ReceiveToEnd(), "");
}

TEST_F(HostileTest, UnknownCommandsAndFlagsAreRefusedAndTheConnectionLivesOn) {
  RawClient client(address_.path);
  Open(client);
  const std::string requests[] = {
      RawClient::Request(0, 8, 1, 0, 0),
      RawClient::Request(0, 0xffff, 1, 0, 0xffffffff),
      RawClient::Request(0x8000, kRead, 1, 0, 512),
      RawClient::Request(1 << 2, kRead, 1, 0, 512),  // DF without structured replies.
      RawClient::Request(1 << 1, kFlush, 1, 0, 0),
      RawClient::Request(0, kBlockStatus, 1, 0, 512),  // No context was agreed on.
      RawClient::Request(0x4000, kWrite, 1, 0, 4) + "data",
  };
  for (const std::string& request : requests) {
    ASSERT_TRUE(client.Send(request));
    const auto reply = client.ReceiveSimpleReply();
    ASSERT_TRUE(reply.has_value());
    EXPECT_EQ(reply->error, kInvalid);
    EXPECT_EQ(reply->cookie, 1u);
  }
  ASSERT_TRUE(client.Send(RawClient::Request(0, kFlush, 2, 0, 0)));
  EXPECT_EQ(client.ReceiveSimpleReply()->error, 0u);
}

TEST_F(HostileTest, AWriteTooLongToTakeIsRefusedAndEndsTheConnection) {
  for (const uint32_t length : {kPayloadBytesMax + 1, 0xffffffffu}) {
    RawClient client(address_.path);
    Open(client);
    ASSERT_TRUE(client.Send(RawClient::Request(0, kWrite, 9, 0, length)));
    const auto reply = client.ReceiveSimpleReply();
    ASSERT_TRUE(reply.has_value());
    EXPECT_EQ(reply->error, kInvalid);
    EXPECT_EQ(client.ReceiveToEnd(), "");
  }
}

TEST_F(HostileTest, RequestsMayArriveByteByByteAndInOneLump) {
  std::mt19937 random(7);
  RawClient client(address_.path);
  Open(client);
  std::string lump;
  std::string model(1024 * 1024, '\0');
  for (uint64_t cookie = 0; cookie < 20; ++cookie) {
    // Both sides of the size up to which data stays in the receive block.
    const uint32_t length = cookie % 3 == 0 ? random() % 200000 : random() % 3000;
    const uint64_t offset = random() % (model.size() - length);
    const std::string data(length, static_cast<char>('a' + cookie));
    model.replace(offset, length, data);
    absl::StrAppend(&lump, RawClient::Request(0, kWrite, cookie, offset, length), data);
    // One at a time: requests in flight together have no order.
    for (size_t begin = 0; begin < lump.size();) {
      const size_t step = cookie % 2 == 0 && begin < 100 ? 1 : 1 + random() % lump.size();
      ASSERT_TRUE(client.Send(lump.substr(begin, step)));
      begin += step;
    }
    lump.clear();
    const auto reply = client.ReceiveSimpleReply();
    ASSERT_TRUE(reply.has_value());
    EXPECT_EQ(reply->error, 0u);
    EXPECT_EQ(reply->cookie, cookie);
  }
  EXPECT_TRUE(disk_->Contents({0, model.size()}) == model);
}

TEST_F(HostileTest, AClientThatVanishesInTheMiddleOfAMessageCostsNothing) {
  const std::string write = RawClient::Request(0, kWrite, 1, 0, 100000) + std::string(100000, 'x');
  for (const size_t cut : {1u, 27u, 28u, 29u, 5000u, 70000u, 99999u}) {
    RawClient client(address_.path);
    Open(client);
    ASSERT_TRUE(client.Send(write.substr(0, cut)));
    client.EndSending();
    EXPECT_EQ(client.ReceiveToEnd(), "");
  }
  EXPECT_EQ(disk_->Contents({0, 4096}), std::string(4096, '\0')) << "a partial write is no write";
}

TEST_F(HostileTest, AClientThatTakesNoAnswersIsNotReadFromWithoutBound) {
  RawClient client(address_.path);
  Open(client);
  // Asks for far more than would fit anywhere, and reads none of it.
  std::string asks;
  for (uint64_t cookie = 0; cookie < 1000; ++cookie) {
    asks += RawClient::Request(0, kRead, cookie, 0, kPayloadBytesMax);
  }
  constexpr size_t kTrialsMax = 20000;
  size_t accepted = 0;
  size_t refusals = 0;
  for (size_t trial = 0; trial < kTrialsMax && refusals < 1000; ++trial) {
    const size_t count = client.SendWithoutWaiting(asks);
    accepted += count;
    if (count == 0) {
      refusals++;
      std::this_thread::yield();
    }
  }
  EXPECT_LT(accepted, size_t{16} * 1024 * 1024);
  rusage usage;
  ASSERT_EQ(getrusage(RUSAGE_SELF, &usage), 0);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_LT(usage.ru_maxrss, 600 * 1024) << "kilobytes; the answers asked for are 32 GB and more";
#endif
  // Another client of the same export, and stopping with the deaf one still there, both work.
}

TEST_F(HostileTest, AFloodOfRequestsIsAnsweredInFull) {
  RawClient client(address_.path);
  Open(client);
  constexpr uint64_t kCount = 20000;
  std::thread sender([&] {
    std::string flood;
    for (uint64_t cookie = 0; cookie < kCount; ++cookie) {
      flood += RawClient::Request(0, cookie % 2 == 0 ? kFlush : uint16_t{99}, cookie, 0, 0);
    }
    EXPECT_TRUE(client.Send(flood));
  });
  std::vector<bool> seen(kCount);
  for (uint64_t i = 0; i < kCount; ++i) {
    const auto reply = client.ReceiveSimpleReply();
    ASSERT_TRUE(reply.has_value());
    ASSERT_LT(reply->cookie, kCount);
    EXPECT_FALSE(seen[reply->cookie]);
    seen[reply->cookie] = true;
    EXPECT_EQ(reply->error, reply->cookie % 2 == 0 ? 0u : kInvalid);
  }
  sender.join();
}

TEST_F(HostileTest, DisconnectingIsSilent) {
  RawClient client(address_.path);
  Open(client);
  ASSERT_TRUE(client.Send(RawClient::Request(0, kDisconnect, 1, 0, 0)));
  EXPECT_EQ(client.ReceiveToEnd(), "");
}

// A good conversation, from which the mutator makes bad ones.
std::string Conversation() {
  const auto counted = [](absl::string_view text) {
    return absl::StrCat(RawClient::U32(static_cast<uint32_t>(text.size())), text);
  };
  const std::string contexts =
      absl::StrCat(counted("disk"), RawClient::U32(3), counted("base:allocation"), counted("qemu:"),
                   counted("qemu:dirty-bitmap:b"));
  return absl::StrCat(RawClient::U32(3), RawClient::Option(8, ""), RawClient::Option(3, ""),
                      RawClient::Option(9, contexts), RawClient::Option(10, contexts),
                      RawClient::Option(6, counted("disk") + RawClient::U16(1) + RawClient::U16(3)),
                      RawClient::Option(7, counted("disk") + RawClient::U16(1) + RawClient::U16(3)),
                      RawClient::Request(0, 1, 1, 0, 600), std::string(600, 'x'),
                      RawClient::Request(0, 0, 2, 0, 4096), RawClient::Request(0, 7, 3, 0, 1 << 20),
                      RawClient::Request(1, 6, 4, 4096, 8192), RawClient::Request(0, 4, 5, 0, 4096),
                      RawClient::Request(0, 5, 6, 0, 4096), RawClient::Request(0, 3, 7, 0, 0),
                      RawClient::Request(0, 0, 8, 1 << 20, 1 << 18),
                      RawClient::Request(0, 2, 9, 0, 0));
}

std::string Mutate(std::string bytes, std::mt19937& random) {
  static constexpr uint32_t kInteresting[] = {0,          1,          0x7fffffff, 0x80000000,
                                              0xffffffff, 0x00010000, 4096,       33554433};
  const int changes = 1 + static_cast<int>(random() % 4);
  for (int i = 0; i < changes && !bytes.empty(); ++i) {
    const size_t at = random() % bytes.size();
    switch (random() % 5) {
      case 0:
        bytes[at] = static_cast<char>(random());
        break;
      case 1:
        bytes.replace(at, 4, RawClient::U32(kInteresting[random() % 8]));
        break;
      case 2:
        bytes.erase(at, 1 + random() % 32);
        break;
      case 3:
        bytes.insert(at, bytes.substr(random() % bytes.size(), random() % 64));
        break;
      default:
        bytes.resize(at);
        break;
    }
  }
  return bytes;
}

TEST_F(HostileTest, TheConversationThatIsMutatedWorksUnmutated) {
  RawClient client(address_.path);
  ASSERT_TRUE(client.Send(Conversation()));
  const std::string answers = client.ReceiveToEnd();
  EXPECT_NE(answers.find(RawClient::U64(8)), std::string::npos) << "the last read is answered";
  EXPECT_EQ(disk_->Contents({4096, 8192}), std::string(8192, '\0'));
}

TEST_F(HostileTest, SeededNonsenseNeverHangsOrBreaksTheServer) {
  const char* const given = std::getenv("TIDEMARK_NBD_SEED");
  const uint32_t first_seed = given == nullptr ? 1 : static_cast<uint32_t>(std::atoi(given));
  const std::string good = Conversation();
  for (uint32_t seed = first_seed; seed < first_seed + 400; ++seed) {
    SCOPED_TRACE(absl::StrCat("replay with TIDEMARK_NBD_SEED=", seed));
    std::mt19937 random(seed);
    RawClient client(address_.path);
    const std::string bytes = Mutate(good, random);
    // In lumps, with a reader beside, as answers to a nonsense read may be many.
    std::thread reader([&] { client.ReceiveToEnd(); });
    client.Send(bytes);
    client.EndSending();
    reader.join();  // Hangs if the server neither answers to the end nor hangs up.
  }
}

}  // namespace
}  // namespace tidemark::nbd
