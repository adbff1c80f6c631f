// The handshake: option by option, as libnbd sees it, and byte by byte where libnbd is too polite.
#include "engine/nbd/negotiation.h"

#include <gtest/gtest.h>

#include "absl/strings/match.h"
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

constexpr uint64_t kDiskBytes = 1024 * 1024;

// Numbers from the specification, on purpose not from the server's header.
constexpr uint32_t kAck = 1, kServer = 2, kInfo = 3, kContext = 4;
constexpr uint32_t kUnsupported = 0x80000001, kPolicy = 0x80000002, kInvalid = 0x80000003,
                   kUnknown = 0x80000006, kBlockSizeRequired = 0x80000008, kTooBig = 0x80000009;
constexpr uint32_t kOptAbort = 2, kOptList = 3, kOptStartTls = 5, kOptInfo = 6, kOptGo = 7,
                   kOptStructured = 8, kOptListContext = 9, kOptSetContext = 10;

std::string U16(uint16_t value) { return RawClient::U16(value); }
std::string U32(uint32_t value) { return RawClient::U32(value); }

std::string Counted(absl::string_view text) {
  return absl::StrCat(U32(static_cast<uint32_t>(text.size())), text);
}

std::string Contexts(absl::string_view name, std::vector<std::string> queries) {
  std::string data = absl::StrCat(Counted(name), U32(static_cast<uint32_t>(queries.size())));
  for (const std::string& query : queries) data += Counted(query);
  return data;
}

class AlignedStorage final : public storage::ForwardingStorage {
 public:
  using ForwardingStorage::ForwardingStorage;
  storage::Limits limits() const override {
    storage::Limits limits = ForwardingStorage::limits();
    limits.request_alignment_bytes = 512;
    return limits;
  }
};

class NegotiationTest : public testing::Test {
 protected:
  NegotiationTest() {
    Server::Options options;
    options.address = address_;
    server_ = *Server::Start(options);
    Export exported;
    exported.name = "disk";
    exported.description = "a disk for tests";
    exported.storage = disk_;
    exported.writable = true;
    exported.allocation_depth = true;
    for (const char* name : {"b0", "b1"}) {
      exported.bitmaps.push_back({name, std::make_shared<bitmap::DirtyBitmap>(kDiskBytes, 65536)});
    }
    EXPECT_TRUE(server_->AddExport(exported).ok());
    Export plain;
    plain.name = "plain";
    plain.storage = std::make_shared<AlignedStorage>(disk_);
    EXPECT_TRUE(server_->AddExport(plain).ok());
  }

  // Sends an option and expects one reply of `type`.
  static void ExpectReply(RawClient& client, const std::string& option, uint32_t type) {
    ASSERT_TRUE(client.Send(option));
    const auto reply = client.ReceiveOptionReply();
    ASSERT_TRUE(reply.has_value());
    EXPECT_EQ(reply->type, type) << std::hex << reply->type << ": " << reply->data;
  }
  // Names of the contexts that an option brings, before its acknowledgement.
  static std::vector<std::string> ContextsFor(RawClient& client, const std::string& option) {
    std::vector<std::string> names;
    EXPECT_TRUE(client.Send(option));
    for (;;) {
      const auto reply = client.ReceiveOptionReply();
      if (!reply.has_value() || reply->type != kContext) {
        EXPECT_TRUE(reply.has_value() && reply->type == kAck);
        return names;
      }
      names.push_back(reply->data.substr(4));
    }
  }

  const UnixAddress address_{"nbd.sock"};
  TestFolder folder_;
  const std::shared_ptr<storage::MemoryStorage> disk_ =
      std::make_shared<storage::MemoryStorage>(kDiskBytes);
  std::unique_ptr<Server> server_;
};

TEST_F(NegotiationTest, ListingNamesEveryExportWithItsDescription) {
  Guest guest;
  Guest::Wishes wishes;
  wishes.stay_in_options = true;
  ASSERT_EQ(guest.Connect(address_, wishes), 0) << guest.error();
  std::vector<std::string> listed;
  nbd_list_callback callback = {};
  callback.user_data = &listed;
  callback.callback = [](void* user_data, const char* name, const char* description) {
    static_cast<std::vector<std::string>*>(user_data)->push_back(
        absl::StrCat(name, ": ", description));
    return 0;
  };
  EXPECT_EQ(nbd_opt_list(guest.handle(), callback), 2);
  EXPECT_EQ(listed, (std::vector<std::string>{"disk: a disk for tests", "plain: "}));
  EXPECT_EQ(nbd_opt_abort(guest.handle()), 0);
}

TEST_F(NegotiationTest, InfoTellsAboutAnExportWithoutOpeningIt) {
  Guest guest;
  Guest::Wishes wishes;
  wishes.stay_in_options = true;
  wishes.export_name = "disk";
  ASSERT_EQ(guest.Connect(address_, wishes), 0) << guest.error();
  EXPECT_EQ(nbd_opt_info(guest.handle()), 0);
  EXPECT_EQ(nbd_get_size(guest.handle()), static_cast<int64_t>(kDiskBytes));
  EXPECT_EQ(server_->client_count("disk"), 0);
  nbd_set_export_name(guest.handle(), "nothing");
  EXPECT_EQ(nbd_opt_info(guest.handle()), -1);
  nbd_set_export_name(guest.handle(), "disk");
  EXPECT_EQ(nbd_opt_go(guest.handle()), 0) << "after a refusal";
  EXPECT_EQ(server_->client_count("disk"), 1);
}

TEST_F(NegotiationTest, ARefusalNamesTheExport) {
  RawClient client(address_.path);
  ASSERT_TRUE(client.Greet());
  ASSERT_TRUE(client.Send(RawClient::Option(kOptGo, Counted("nothing") + U16(0))));
  const auto reply = client.ReceiveOptionReply();
  ASSERT_TRUE(reply.has_value());
  EXPECT_EQ(reply->type, kUnknown);
  EXPECT_EQ(reply->data, "export 'nothing' not present");
}

TEST_F(NegotiationTest, TheOldWayToChooseAnExportWorks) {
  Guest guest;
  Guest::Wishes wishes;
  wishes.export_name = "disk";
  wishes.fixed_newstyle = false;
  ASSERT_EQ(guest.Connect(address_, wishes), 0) << guest.error();
  EXPECT_EQ(guest.Write(0, "old"), 0);
  EXPECT_EQ(guest.Read(0, 3), "old");
  RawClient raw(address_.path);
  ASSERT_TRUE(raw.Greet());
  EXPECT_FALSE(raw.ChooseExport("nothing")) << "there is no way to say no but to hang up";
}

TEST_F(NegotiationTest, ContextsAreListedByNameAndByWildcard) {
  RawClient client(address_.path);
  ASSERT_TRUE(client.Greet());
  ExpectReply(client, RawClient::Option(kOptStructured, ""), kAck);
  const auto list = [&](const char* name, std::vector<std::string> queries) {
    return ContextsFor(client, RawClient::Option(kOptListContext, Contexts(name, queries)));
  };
  using Names = std::vector<std::string>;
  const Names all = {"base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:b0",
                     "qemu:dirty-bitmap:b1"};
  EXPECT_EQ(list("disk", {}), all);
  EXPECT_EQ(list("disk", {"base:"}), Names({"base:allocation"}));
  EXPECT_EQ(list("disk", {"qemu:"}), Names(all.begin() + 1, all.end()));
  EXPECT_EQ(list("disk", {"qemu:dirty-bitmap:"}), Names(all.begin() + 2, all.end()));
  EXPECT_EQ(list("disk", {"qemu:", "base:allocation", "qemu:dirty-bitmap:b0"}).size(), 4u);
  EXPECT_EQ(list("disk", {"qemu:dirty-bitmap:b2", "other:", "qemu", ""}), Names());
  EXPECT_EQ(list("plain", {}), Names({"base:allocation"}));
}

TEST_F(NegotiationTest, ContextsAreSelectedByExactNameOnly) {
  RawClient client(address_.path);
  ASSERT_TRUE(client.Greet());
  ExpectReply(client, RawClient::Option(kOptStructured, ""), kAck);
  const auto set = [&](std::vector<std::string> queries) {
    return ContextsFor(client, RawClient::Option(kOptSetContext, Contexts("disk", queries)));
  };
  EXPECT_EQ(set({"base:", "qemu:", "qemu:dirty-bitmap:"}), std::vector<std::string>());
  EXPECT_EQ(set({"qemu:dirty-bitmap:b1", "base:allocation", "base:allocation"}),
            (std::vector<std::string>{"qemu:dirty-bitmap:b1", "base:allocation"}));
}

TEST_F(NegotiationTest, ContextsOfOneExportDoNotCountForAnother) {
  Guest guest;
  Guest::Wishes wishes;
  wishes.stay_in_options = true;
  wishes.export_name = "disk";
  wishes.contexts = {"base:allocation"};
  ASSERT_EQ(guest.Connect(address_, wishes), 0);
  ASSERT_EQ(nbd_opt_go(guest.handle()), 0);
  EXPECT_EQ(guest.TryStatus(0, 512), 0);

  RawClient client(address_.path);
  ASSERT_TRUE(client.Greet());
  ExpectReply(client, RawClient::Option(kOptStructured, ""), kAck);
  EXPECT_EQ(
      ContextsFor(client, RawClient::Option(kOptSetContext, Contexts("disk", {"base:allocation"})))
          .size(),
      1u);
  ASSERT_TRUE(client.ChooseExport("plain"));
  ASSERT_TRUE(client.Send(RawClient::Request(0, 7, 1, 0, 512)));
  const auto chunk = client.Receive(20);
  ASSERT_TRUE(chunk.has_value());
  EXPECT_EQ(chunk->substr(6, 2), std::string("\x80\x01", 2)) << "an error";
}

TEST_F(NegotiationTest, ContextsNeedStructuredRepliesAndAnExport) {
  RawClient client(address_.path);
  ASSERT_TRUE(client.Greet());
  ExpectReply(client, RawClient::Option(kOptListContext, Contexts("disk", {})), kInvalid);
  ExpectReply(client, RawClient::Option(kOptSetContext, Contexts("disk", {})), kInvalid);
  ExpectReply(client, RawClient::Option(kOptStructured, ""), kAck);
  ExpectReply(client, RawClient::Option(kOptListContext, Contexts("nothing", {})), kUnknown);
}

TEST_F(NegotiationTest, OptionsThatAreUnknownOrOffAreRefusedAndTheTalkGoesOn) {
  RawClient client(address_.path);
  ASSERT_TRUE(client.Greet());
  ExpectReply(client, RawClient::Option(4, ""), kUnsupported);
  ExpectReply(client, RawClient::Option(11, ""), kUnsupported);  // Extended headers.
  ExpectReply(client, RawClient::Option(0xffffffff, "abc"), kUnsupported);
  ExpectReply(client, RawClient::Option(kOptStartTls, ""), kPolicy);
  ExpectReply(client, RawClient::Option(kOptList, "x"), kInvalid);
  ExpectReply(client, RawClient::Option(kOptStructured, "x"), kInvalid);
  ExpectReply(client, RawClient::Option(kOptStructured, ""), kAck);
  ExpectReply(client, RawClient::Option(kOptStructured, ""), kInvalid);
  ExpectReply(client, RawClient::Option(kOptAbort, ""), kAck);
  EXPECT_EQ(client.ReceiveToEnd(), "");
}

TEST_F(NegotiationTest, LengthsInsideAnOptionMustAddUp) {
  RawClient client(address_.path);
  ASSERT_TRUE(client.Greet());
  ExpectReply(client, RawClient::Option(kOptStructured, ""), kAck);
  const std::string broken_names[] = {
      "",
      U16(0),
      U32(4),
      U32(0xffffffff),
      U32(5) + "disk",
      Counted("disk"),
      Counted(std::string(kNameBytesMax + 1, 'n')),
  };
  for (const std::string& broken : broken_names) {
    for (const uint32_t option : {kOptInfo, kOptGo, kOptListContext, kOptSetContext}) {
      ExpectReply(client, RawClient::Option(option, broken), kInvalid);
    }
  }
  const std::string name = Counted("disk");
  for (const std::string& broken : {name + U16(1), name + U16(0) + "x", name + U16(0xffff)}) {
    ExpectReply(client, RawClient::Option(kOptGo, broken), kInvalid);
  }
  for (const std::string& broken :
       {name + U32(1), name + U32(0) + "x", name + U32(0xffffffff), name + U32(1) + U32(9)}) {
    ExpectReply(client, RawClient::Option(kOptSetContext, broken), kInvalid);
  }
  EXPECT_TRUE(client.ChooseExport("disk"));
}

TEST_F(NegotiationTest, AnOptionLargerThanAllowedIsSkippedAndRefused) {
  RawClient client(address_.path);
  ASSERT_TRUE(client.Greet());
  for (const uint32_t length : {kOptionBytesMax + 1, kOptionBytesSkippedMax}) {
    ExpectReply(client, RawClient::Option(kOptGo, std::string(length, 'x')), kTooBig);
  }
  std::vector<std::string> queries(kContextsMax + 1, "base:");
  ExpectReply(client, RawClient::Option(kOptStructured, ""), kAck);
  ExpectReply(client, RawClient::Option(kOptListContext, Contexts("disk", queries)), kTooBig);
  EXPECT_TRUE(client.ChooseExport("disk"));
}

TEST_F(NegotiationTest, AnOptionTooLargeToSkipEndsTheConnection) {
  for (const uint32_t length : {kOptionBytesSkippedMax + 1, 0xffffffffu}) {
    RawClient client(address_.path);
    ASSERT_TRUE(client.Greet());
    ASSERT_TRUE(client.Send(RawClient::OptionHeader(kOptGo, length)));
    EXPECT_EQ(client.ReceiveToEnd(), "");
  }
}

TEST_F(NegotiationTest, AClientThatNeverComesToThePointIsDropped) {
  RawClient client(address_.path);
  ASSERT_TRUE(client.Greet());
  int answers = 0;
  for (; answers < 10 * kOptionsMax; ++answers) {
    if (!client.Send(RawClient::Option(kOptStartTls, ""))) break;
    if (!client.ReceiveOptionReply().has_value()) break;
  }
  EXPECT_EQ(answers, kOptionsMax);
}

TEST_F(NegotiationTest, WrongMagicOrUnknownFlagsEndTheConnection) {
  RawClient flags(address_.path);
  ASSERT_TRUE(flags.Greet(0x80000003));
  EXPECT_EQ(flags.ReceiveToEnd(), "");
  RawClient magic(address_.path);
  ASSERT_TRUE(magic.Greet());
  ASSERT_TRUE(magic.Send(std::string(16, 'x')));
  EXPECT_EQ(magic.ReceiveToEnd(), "");
  RawClient old(address_.path);
  ASSERT_TRUE(old.Greet(0));
  ASSERT_TRUE(old.Send(RawClient::Option(kOptList, "")));
  EXPECT_EQ(old.ReceiveToEnd(), "") << "without fixed newstyle only an export may be chosen";
}

TEST_F(NegotiationTest, AClientOfAnAlignedExportMustAskForBlockSizes) {
  RawClient client(address_.path);
  ASSERT_TRUE(client.Greet());
  ExpectReply(client, RawClient::Option(kOptGo, Counted("plain") + U16(0)), kBlockSizeRequired);
  ASSERT_TRUE(client.Send(RawClient::Option(kOptGo, Counted("plain") + U16(2) + U16(1) + U16(3))));
  std::vector<std::string> infos;
  for (;;) {
    const auto reply = client.ReceiveOptionReply();
    ASSERT_TRUE(reply.has_value());
    if (reply->type == kAck) break;
    ASSERT_EQ(reply->type, kInfo);
    infos.push_back(reply->data);
  }
  ASSERT_EQ(infos.size(), 3u);  // Size and flags, name, block size; no description.
  EXPECT_EQ(infos[1], U16(1) + "plain");
  EXPECT_EQ(infos[2], U16(3) + U32(512) + U32(4096) + U32(32 * 1024 * 1024));
}

TEST_F(NegotiationTest, TheOldAnswerIsPaddedUnlessTheClientWantsItShort) {
  RawClient client(address_.path);
  ASSERT_TRUE(client.Greet(1));
  ASSERT_TRUE(client.Send(RawClient::Option(1, "disk")));
  const auto answer = client.Receive(10 + 124);
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->substr(0, 8), RawClient::U64(kDiskBytes));
  EXPECT_EQ(answer->substr(10), std::string(124, '\0'));
  client.EndSending();
  EXPECT_EQ(client.ReceiveToEnd(), "");
}

TEST_F(NegotiationTest, ServerRepliesNameTheListedExports) {
  RawClient client(address_.path);
  ASSERT_TRUE(client.Greet());
  ASSERT_TRUE(client.Send(RawClient::Option(kOptList, "")));
  const auto first = client.ReceiveOptionReply();
  ASSERT_TRUE(first.has_value());
  EXPECT_EQ(first->type, kServer);
  EXPECT_EQ(first->data, Counted("disk") + "a disk for tests");
}

}  // namespace
}  // namespace tidemark::nbd
