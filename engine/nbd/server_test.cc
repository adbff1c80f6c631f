// The life of a server and its exports, seen by its owner and by libnbd.
#include "engine/nbd/server.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "engine/base/error.h"
#include "engine/nbd/testing/folder.h"
#include "engine/nbd/testing/guest.h"
#include "engine/nbd/testing/raw_client.h"
#include "engine/storage/memory_storage.h"
#include "engine/storage/slow_storage.h"

namespace tidemark::nbd {
namespace {

constexpr uint64_t kDiskBytes = 1024 * 1024;

Reason ReasonOf(const absl::Status& status) {
  const auto details = DetailsOf(status);
  return details.has_value() ? details->reason : Reason::kQemuRefused;
}

class ServerTest : public testing::Test {
 protected:
  static Server::Options At(Address address) {
    Server::Options options;
    options.address = std::move(address);
    return options;
  }
  static std::unique_ptr<Server> MustStart(const Server::Options& options) {
    auto server = Server::Start(options);
    EXPECT_TRUE(server.ok()) << server.status();
    return *std::move(server);
  }
  static Export WritableExport(std::string name, std::shared_ptr<storage::Storage> storage) {
    Export exported;
    exported.name = std::move(name);
    exported.storage = std::move(storage);
    exported.writable = true;
    return exported;
  }
  static std::shared_ptr<storage::MemoryStorage> MakeDisk() {
    return std::make_shared<storage::MemoryStorage>(kDiskBytes);
  }
  static Guest::Wishes Wishing(std::string export_name) {
    Guest::Wishes wishes;
    wishes.export_name = std::move(export_name);
    return wishes;
  }

  const UnixAddress address_{"nbd.sock"};
  TestFolder folder_;
};

TEST_F(ServerTest, WhatAClientWritesIsInTheStorage) {
  auto server = MustStart(At(address_));
  auto disk = MakeDisk();
  ASSERT_TRUE(server->AddExport(WritableExport("disk", disk)).ok());
  Guest guest;
  ASSERT_EQ(guest.Connect(address_, Wishing("disk")), 0) << guest.error();
  EXPECT_EQ(guest.Write(4096, std::string(1000, 'x')), 0) << guest.error();
  EXPECT_EQ(disk->Contents({4096, 1000}), std::string(1000, 'x'));
  EXPECT_EQ(guest.Read(4000, 200), std::string(96, '\0') + std::string(104, 'x'));
}

TEST_F(ServerTest, TcpClientsAreServedAtThePortThatTheKernelChose) {
  auto server = MustStart(At(TcpAddress{"127.0.0.1", "0"}));
  const Address address = server->address();
  EXPECT_NE(absl::get<TcpAddress>(address).port, "0");
  ASSERT_TRUE(server->AddExport(WritableExport("disk", MakeDisk())).ok());
  Guest guest;
  ASSERT_EQ(guest.Connect(address, Wishing("disk")), 0) << guest.error();
  EXPECT_EQ(guest.Write(0, "over tcp"), 0) << guest.error();
  EXPECT_EQ(guest.Read(0, 8), "over tcp");
}

TEST_F(ServerTest, AnUnknownExportIsRefusedByName) {
  auto server = MustStart(At(address_));
  Guest guest;
  EXPECT_NE(guest.Connect(address_, Wishing("nothing")), 0);
  EXPECT_NE(guest.error().find("'nothing'"), std::string::npos) << guest.error();
}

TEST_F(ServerTest, TwoWritableExportsOfOneStorageCoexist) {
  auto server = MustStart(At(address_));
  auto disk = MakeDisk();
  ASSERT_TRUE(server->AddExport(WritableExport("a", disk)).ok());
  ASSERT_TRUE(server->AddExport(WritableExport("b", disk)).ok());
  Guest a, b;
  ASSERT_EQ(a.Connect(address_, Wishing("a")), 0);
  ASSERT_EQ(b.Connect(address_, Wishing("b")), 0);
  EXPECT_EQ(a.Write(0, "shared"), 0);
  EXPECT_EQ(b.Read(0, 6), "shared");
  EXPECT_EQ(server->export_names(), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(server->client_count("a"), 1);
}

TEST_F(ServerTest, AnExportNameIsTakenOnce) {
  auto server = MustStart(At(address_));
  ASSERT_TRUE(server->AddExport(WritableExport("disk", MakeDisk())).ok());
  const absl::Status again = server->AddExport(WritableExport("disk", MakeDisk()));
  EXPECT_EQ(ReasonOf(again), Reason::kExportExists);
  EXPECT_NE(again.message().find("'disk'"), std::string::npos);
}

TEST_F(ServerTest, NamesAndDescriptionsMayBeAsLongAsTheProtocolAllowsAndNoLonger) {
  auto server = MustStart(At(address_));
  const std::string longest(kNameBytesMax, 'n');
  Export exported = WritableExport(longest, MakeDisk());
  exported.description = std::string(kNameBytesMax, 'd');
  ASSERT_TRUE(server->AddExport(exported).ok());
  Guest guest;
  ASSERT_EQ(guest.Connect(address_, Wishing(longest)), 0) << guest.error();
  char* const description = nbd_get_export_description(guest.handle());
  ASSERT_NE(description, nullptr);
  EXPECT_EQ(description, std::string(kNameBytesMax, 'd'));
  free(description);

  EXPECT_EQ(ReasonOf(server->AddExport(WritableExport(longest + "n", MakeDisk()))),
            Reason::kInvalidField);
  exported = WritableExport("short", MakeDisk());
  exported.description = std::string(kNameBytesMax + 1, 'd');
  EXPECT_EQ(ReasonOf(server->AddExport(exported)), Reason::kInvalidField);
}

TEST_F(ServerTest, SafeRemovalIsRefusedWhileAClientIsConnectedAndWorksOnceItHasLeft) {
  auto server = MustStart(At(address_));
  auto disk = MakeDisk();
  ASSERT_TRUE(server->AddExport(WritableExport("disk", disk)).ok());
  {
    Guest guest;
    ASSERT_EQ(guest.Connect(address_, Wishing("disk")), 0);
    EXPECT_EQ(ReasonOf(server->RemoveExport("disk", Server::RemoveMode::kSafe)),
              Reason::kExportInUse);
    EXPECT_EQ(guest.Write(0, "still here"), 0);
    guest.Leave();
  }
  while (server->client_count("disk") > 0) std::this_thread::yield();
  EXPECT_TRUE(server->RemoveExport("disk", Server::RemoveMode::kSafe).ok());
  EXPECT_EQ(disk.use_count(), 1);
  EXPECT_TRUE(server->export_names().empty());
}

TEST_F(ServerTest, HardRemovalDisconnectsClientsAndLetsGoOfTheStorage) {
  auto server = MustStart(At(address_));
  auto disk = MakeDisk();
  ASSERT_TRUE(server->AddExport(WritableExport("disk", disk)).ok());
  ASSERT_TRUE(server->AddExport(WritableExport("other", MakeDisk())).ok());
  Guest guest, other;
  ASSERT_EQ(guest.Connect(address_, Wishing("disk")), 0);
  ASSERT_EQ(other.Connect(address_, Wishing("other")), 0);
  EXPECT_TRUE(server->RemoveExport("disk", Server::RemoveMode::kHard).ok());
  EXPECT_EQ(disk.use_count(), 1);
  EXPECT_NE(guest.TryRead(0, 512), 0);
  EXPECT_EQ(other.TryRead(0, 512), 0) << "clients of other exports are left alone";
  Guest late;
  EXPECT_NE(late.Connect(address_, Wishing("disk")), 0);
}

TEST_F(ServerTest, HardRemovalWaitsForTheRequestInFlight) {
  auto server = MustStart(At(address_));
  auto disk = MakeDisk();
  auto slow = std::make_shared<storage::SlowStorage>(disk);
  ASSERT_TRUE(server->AddExport(WritableExport("disk", slow)).ok());
  Guest guest;
  ASSERT_EQ(guest.Connect(address_, Wishing("disk")), 0);
  slow->Hold(storage::Verb::kWrite);
  const std::string data(512, 'x');
  const int64_t cookie = guest.StartWrite(0, data);
  slow->AwaitHeld(1);
  std::atomic<bool> removed = false;
  std::thread remover([&] {
    EXPECT_TRUE(server->RemoveExport("disk", Server::RemoveMode::kHard).ok());
    EXPECT_EQ(disk->Contents({0, 512}), data) << "removed before the write had ended";
    removed = true;
  });
  while (!server->export_names().empty()) std::this_thread::yield();
  EXPECT_FALSE(removed);
  slow->Release();
  remover.join();
  EXPECT_EQ(guest.Await(cookie), 0) << "the answer still goes out: " << guest.error();
  EXPECT_EQ(slow.use_count(), 1);
}

TEST_F(ServerTest, AnExportComesBackUnderItsOldName) {
  auto server = MustStart(At(address_));
  for (const char* text : {"first", "other"}) {
    auto disk = storage::MemoryStorage::Of(text);
    ASSERT_TRUE(server->AddExport(WritableExport("disk", disk)).ok());
    Guest guest;
    ASSERT_EQ(guest.Connect(address_, Wishing("disk")), 0);
    EXPECT_EQ(guest.Read(0, 5), text);
    EXPECT_TRUE(server->RemoveExport("disk", Server::RemoveMode::kHard).ok());
  }
}

TEST_F(ServerTest, RemovingAnUnknownExportIsRefused) {
  auto server = MustStart(At(address_));
  EXPECT_EQ(ReasonOf(server->RemoveExport("none", Server::RemoveMode::kHard)),
            Reason::kExportNotFound);
}

TEST_F(ServerTest, StopDisconnectsClientsRemovesTheSocketFileAndDropsExports) {
  auto server = MustStart(At(address_));
  auto disk = MakeDisk();
  ASSERT_TRUE(server->AddExport(WritableExport("disk", disk)).ok());
  Guest guest;
  ASSERT_EQ(guest.Connect(address_, Wishing("disk")), 0);
  RawClient silent(address_.path);  // Never says a word.
  server->Stop();
  EXPECT_FALSE(std::filesystem::exists(address_.path));
  EXPECT_EQ(disk.use_count(), 1);
  EXPECT_NE(guest.TryRead(0, 512), 0);
  EXPECT_EQ(ReasonOf(server->AddExport(WritableExport("disk", disk))),
            Reason::kNbdServerNotRunning);
  Guest late;
  EXPECT_NE(late.Connect(address_, Wishing("disk")), 0);
  server->Stop();  // Again does nothing.
  auto next = MustStart(At(address_));
  EXPECT_TRUE(std::filesystem::exists(address_.path));
}

TEST_F(ServerTest, StopWaitsForRequestsInFlight) {
  auto server = MustStart(At(address_));
  auto disk = MakeDisk();
  auto slow = std::make_shared<storage::SlowStorage>(disk);
  ASSERT_TRUE(server->AddExport(WritableExport("disk", slow)).ok());
  Guest guest;
  ASSERT_EQ(guest.Connect(address_, Wishing("disk")), 0);
  slow->Hold(storage::Verb::kWrite);
  const std::string data(512, 'x');
  guest.StartWrite(0, data);
  slow->AwaitHeld(1);
  std::thread stopper([&] {
    server->Stop();
    EXPECT_EQ(disk->Contents({0, 512}), data);
  });
  while (std::filesystem::exists(address_.path)) std::this_thread::yield();
  slow->Release();
  stopper.join();
}

TEST_F(ServerTest, ALeftOverSocketFileIsReplaced) {
  {
    auto server = MustStart(At(address_));
    std::filesystem::create_hard_link(address_.path, "left-over.sock");
  }
  ASSERT_TRUE(std::filesystem::is_socket("left-over.sock"));
  auto server = MustStart(At(UnixAddress{"left-over.sock"}));
  ASSERT_TRUE(server->AddExport(WritableExport("disk", MakeDisk())).ok());
  Guest guest;
  EXPECT_EQ(guest.Connect(UnixAddress{"left-over.sock"}, Wishing("disk")), 0) << guest.error();
}

TEST_F(ServerTest, ASocketSomebodyListensAtIsLeftAlone) {
  auto server = MustStart(At(address_));
  ASSERT_TRUE(server->AddExport(WritableExport("disk", MakeDisk())).ok());
  const auto second = Server::Start(At(address_));
  EXPECT_EQ(ReasonOf(second.status()), Reason::kIoError);
  EXPECT_NE(second.status().message().find(address_.path), std::string::npos);
  Guest guest;
  EXPECT_EQ(guest.Connect(address_, Wishing("disk")), 0) << guest.error();
}

TEST_F(ServerTest, AFileThatIsNoSocketIsLeftAlone) {
  std::ofstream("precious") << "data";
  const auto server = Server::Start(At(UnixAddress{"precious"}));
  EXPECT_EQ(ReasonOf(server.status()), Reason::kIoError);
  EXPECT_EQ(std::filesystem::file_size("precious"), 4u);
}

TEST_F(ServerTest, AddressesThatCannotBeUsedAreRefusedByName) {
  const std::pair<Address, Reason> cases[] = {
      {UnixAddress{"missing/nbd.sock"}, Reason::kIoError},
      {UnixAddress{""}, Reason::kInvalidField},
      {UnixAddress{std::string(200, 's')}, Reason::kInvalidField},
      {UnixAddress{std::string("a\0b", 3)}, Reason::kInvalidField},
      {TcpAddress{"127.0.0.1", "no-such-service"}, Reason::kInvalidField},
  };
  for (const auto& [address, reason] : cases) {
    const auto server = Server::Start(At(address));
    EXPECT_EQ(ReasonOf(server.status()), reason) << ToString(address) << ": " << server.status();
    EXPECT_NE(server.status().message().find(ToString(address)), std::string::npos)
        << server.status();
  }
}

TEST_F(ServerTest, AnAddressThatOtherMachinesReachIsRefusedUnlessItIsAllowed) {
  for (const char* host : {"0.0.0.0", "::", "", "203.0.113.5", "0", "::ffff:10.0.0.1"}) {
    Server::Options options = At(TcpAddress{host, "0"});
    const absl::Status refused = Server::Start(options).status();
    EXPECT_EQ(ReasonOf(refused), Reason::kPathForbidden) << host << ": " << refused;
    EXPECT_NE(refused.message().find(ToString(options.address)), std::string::npos) << refused;
    EXPECT_NE(refused.message().find("--insecure"), std::string::npos) << refused;
  }
  Server::Options options = At(TcpAddress{"0.0.0.0", "0"});
  options.allow_remote = true;
  EXPECT_TRUE(Server::Start(options).ok());
  options.address = TcpAddress{"203.0.113.5", "0"};
  EXPECT_EQ(ReasonOf(Server::Start(options).status()), Reason::kIoError) << "not of this machine";
}

TEST_F(ServerTest, EveryAddressOfThisMachineAloneIsTaken) {
  for (const char* host : {"127.0.0.1", "127.1.2.3", "localhost"}) {
    const auto server = Server::Start(At(TcpAddress{host, "0"}));
    EXPECT_TRUE(server.ok()) << host << ": " << server.status();
  }
}

TEST_F(ServerTest, APortInUseIsRefused) {
  auto server = MustStart(At(TcpAddress{"127.0.0.1", "0"}));
  EXPECT_EQ(ReasonOf(Server::Start(At(server->address())).status()), Reason::kIoError);
}

TEST_F(ServerTest, TlsCredentialsAreRefusedByTheirId) {
  Server::Options options = At(address_);
  options.tls_credentials = "tls0";
  const auto server = Server::Start(options);
  EXPECT_EQ(ReasonOf(server.status()), Reason::kObjectNotFound);
  EXPECT_NE(server.status().message().find("'tls0'"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(address_.path));
}

TEST_F(ServerTest, MoreClientsThanAllowedWaitTheirTurn) {
  Server::Options options = At(address_);
  options.connections_max = 1;
  auto server = MustStart(options);
  ASSERT_TRUE(server->AddExport(WritableExport("disk", MakeDisk())).ok());
  auto first = std::make_unique<Guest>();
  ASSERT_EQ(first->Connect(address_, Wishing("disk")), 0);
  Guest second;
  std::thread waiter([&] { EXPECT_EQ(second.Connect(address_, Wishing("disk")), 0); });
  EXPECT_EQ(first->Write(0, "x"), 0);
  EXPECT_EQ(server->client_count("disk"), 1);
  EXPECT_EQ(nbd_can_multi_conn(first->handle()), 0) << "several connections would never get in";
  first = nullptr;
  waiter.join();
  EXPECT_EQ(second.Read(0, 1), "x");
}

TEST_F(ServerTest, AClientThatNeverChoosesIsDropped) {
  Server::Options options = At(address_);
  options.handshake_timeout = absl::Milliseconds(20);
  auto server = MustStart(options);
  RawClient silent(address_.path);
  EXPECT_EQ(silent.ReceiveToEnd().size(), 18u) << "the greeting, and then the end";
  RawClient talker(address_.path);
  while (talker.Send(RawClient::Option(3, ""))) {  // Talks, but never comes to the point.
  }
}

TEST_F(ServerTest, ManyClientsComeAndGo) {
  auto server = MustStart(At(address_));
  auto disk = MakeDisk();
  ASSERT_TRUE(server->AddExport(WritableExport("disk", disk)).ok());
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      for (int round = 0; round < 10; ++round) {
        Guest guest;
        ASSERT_EQ(guest.Connect(address_, Wishing("disk")), 0) << guest.error();
        const std::string data(4096, static_cast<char>('a' + thread));
        EXPECT_EQ(guest.Write(4096 * thread, data), 0);
        EXPECT_EQ(guest.Read(4096 * thread, 4096), data);
        if (round % 2 == 0) guest.Leave();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  server->Stop();
  EXPECT_EQ(disk.use_count(), 1);
}

}  // namespace
}  // namespace tidemark::nbd
