// The NBD server and exports, as a client sees them through libnbd.
#include <libnbd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "absl/strings/str_cat.h"
#include "tests/conformance/conformance.h"

namespace tidemark::test {
namespace {

class ExportScenarios : public Conformance {
 protected:
  void SetUp() override {
    Conformance::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    operate().CreateDisk("disk0");
  }
  std::unique_ptr<Guest> Connect(const std::string& name,
                                 const std::vector<std::string>& contexts = {}) {
    return std::make_unique<Guest>(NbdPlace{operate().nbd_socket(), name}, ModelOf("disk0"),
                                   contexts);
  }
};

constexpr auto kNotRunning = v1::ERROR_REASON_NBD_SERVER_NOT_RUNNING;
constexpr auto kExists = v1::ERROR_REASON_EXPORT_EXISTS;

TEST_P(ExportScenarios, WithoutAServerNothingIsExported) {
  ExpectRefused(ExportAdd("e0", "disk0", true), kNotRunning, {});
  ExpectRefused(v1::NbdServerStopRequest(), kNotRunning, {});
  v1::NbdServerAddRequest add;
  add.set_device("disk0");
  ExpectRefused(add, kNotRunning, {});
  v1::NbdServerRemoveRequest remove;
  remove.set_name("disk0");
  ExpectRefused(remove, v1::ERROR_REASON_EXPORT_NOT_FOUND, {"disk0"});
}

TEST_P(ExportScenarios, AServerRunsOnceAndLeavesNoSocketBehind) {
  operate().StartNbd();
  ExpectRefused(NbdStart(folder().File("other.sock")), v1::ERROR_REASON_NBD_SERVER_RUNNING, {});
  operate().Do(ExportAdd("e0", "disk0", true));
  operate().Do(ExportAdd("e1", "disk0", true, {}, "again"));
  operate().Do(v1::NbdServerStopRequest());
  EXPECT_TRUE(events().WaitForKind("e0", v1::EVENT_KIND_BLOCK_EXPORT_DELETED));
  EXPECT_TRUE(events().WaitForKind("e1", v1::EVENT_KIND_BLOCK_EXPORT_DELETED));
  EXPECT_THAT(folder().List(), ::testing::Not(::testing::Contains("nbd.sock")));
  EXPECT_THAT(operate().Exports(), IsEmpty());
  operate().Detach("disk0");
  operate().Do(NbdStart(operate().nbd_socket()));
}

TEST_P(ExportScenarios, AnAddressThatCannotBeBound) {
  const std::string path = folder().File("nowhere/nbd.sock");
  const auto reply = operate().Try(NbdStart(path));
  EXPECT_FALSE(reply.ok());
  EXPECT_THAT(reply.refusal.message, ::testing::HasSubstr(path));
  const std::string taken = folder().File("taken.sock");
  operate().Do(NbdStart(taken));
  operate().Do(v1::NbdServerStopRequest());
}

TEST_P(ExportScenarios, AServerOnTcp) {
  v1::NbdServerStartRequest start;
  start.mutable_addr()->mutable_inet()->set_host("127.0.0.1");
  start.mutable_addr()->mutable_inet()->set_port("0");
  operate().Do(start);
  operate().Do(ExportAdd("e0", "disk0", true));
  operate().Do(v1::NbdServerStopRequest());
}

TEST_P(ExportScenarios, AServerThatOtherMachinesReachNeedsTls) {
  for (const char* host : {"0.0.0.0", "::", ""}) {
    v1::NbdServerStartRequest start;
    start.mutable_addr()->mutable_inet()->set_host(host);
    start.mutable_addr()->mutable_inet()->set_port("0");
    ExpectRefused(start, v1::ERROR_REASON_PATH_FORBIDDEN, {absl::StrCat("'", host, ":0'")});
  }
  ExpectRefused(v1::NbdServerStopRequest(), kNotRunning, {});
}

TEST_P(ExportScenarios, AClientFindsEveryAbility) {
  operate().StartNbd();
  operate().Do(ExportAdd("e0", "disk0", /*writable=*/true));
  const auto client = Connect("disk0");
  ASSERT_TRUE(client->connected()) << client->error();
  nbd_handle* nbd = client->handle();
  EXPECT_STREQ(nbd_get_protocol(nbd), "newstyle-fixed");
  EXPECT_EQ(nbd_get_structured_replies_negotiated(nbd), 1);
  EXPECT_EQ(nbd_is_read_only(nbd), 0);
  EXPECT_EQ(nbd_can_flush(nbd), 1);
  EXPECT_EQ(nbd_can_fua(nbd), 1);
  EXPECT_EQ(nbd_can_trim(nbd), 1);
  EXPECT_EQ(nbd_can_zero(nbd), 1);
  EXPECT_EQ(nbd_can_fast_zero(nbd), 1);
  EXPECT_EQ(nbd_can_df(nbd), 1);
  EXPECT_EQ(nbd_can_cache(nbd), 1);
  EXPECT_EQ(nbd_can_multi_conn(nbd), 1);
  EXPECT_EQ(nbd_get_size(nbd), static_cast<int64_t>(kDiskBytes));
  EXPECT_EQ(nbd_get_block_size(nbd, LIBNBD_SIZE_MINIMUM), 1);
  EXPECT_EQ(nbd_get_block_size(nbd, LIBNBD_SIZE_PREFERRED), 4096);
  EXPECT_EQ(nbd_get_block_size(nbd, LIBNBD_SIZE_MAXIMUM), static_cast<int64_t>(32 * kMiB));
}

TEST_P(ExportScenarios, AReadOnlyExportTakesNoWrites) {
  operate().StartNbd();
  operate().Do(ExportAdd("e0", "disk0", /*writable=*/false));
  const auto client = Connect("disk0");
  ASSERT_TRUE(client->connected()) << client->error();
  EXPECT_EQ(nbd_is_read_only(client->handle()), 1);
  EXPECT_EQ(nbd_can_trim(client->handle()), 0);
  EXPECT_EQ(nbd_can_zero(client->handle()), 0);
  nbd_set_strict_mode(client->handle(), 0);
  EXPECT_NE(client->TryWrite(1, Clusters(0, 1)), 0);
  EXPECT_THAT(client->ReadAll(), HoldsSameAs(std::string(kDiskBytes, '\0')));
}

TEST_P(ExportScenarios, RequestsBeyondTheEndFailAndTheConnectionLives) {
  guest().Write(1, {kDiskBytes - 512, 512});
  nbd_set_strict_mode(guest().handle(), 0);
  EXPECT_NE(guest().TryRead({kDiskBytes - 512, 1024}), 0);
  EXPECT_NE(guest().TryRead({UINT64_MAX - 4096, 512}), 0);
  EXPECT_EQ(guest().TryRead({0, 512}), 0);
}

TEST_P(ExportScenarios, WritesAreSeenThroughEveryExport) {
  operate().StartNbd();
  operate().Do(ExportAdd("e0", "disk0", true, {}, "left"));
  operate().Do(ExportAdd("e1", "disk0", true, {}, "right"));
  const auto left = Connect("left");
  const auto right = Connect("right");
  left->Write(1, {100, 5000});
  EXPECT_EQ(left->TryWrite(2, Clusters(3, 1), /*force_unit_access=*/true), 0);
  left->Flush();
  EXPECT_THAT(right->ReadAll(), HoldsSameAs(ModelOf("disk0")->bytes()));
}

TEST_P(ExportScenarios, AllocationIsTold) {
  guest().Write(1, Clusters(2, 2));
  guest().Write(1, Clusters(5, 1));
  guest().Zero(Clusters(5, 1));
  operate().Do(ExportAdd("look", "disk0", false, {}, "look"));
  const auto client = Connect("look", {"base:allocation"});
  ASSERT_TRUE(client->connected()) << client->error();
  Ranges data;
  for (const Extent& extent : client->Extents("base:allocation")) {
    if (extent.flags == 0) data.push_back(extent.range);
    EXPECT_TRUE(extent.flags == 0 || extent.flags == 3 || extent.flags == 2) << extent;
  }
  EXPECT_EQ(Merged(data), Ranges{Clusters(2, 2)});
}

TEST_P(ExportScenarios, DepthOfAllocationIsToldIfAskedFor) {
  guest().Write(1, Clusters(0, 2));
  Unplug();
  Image::Create(operate().FileOf("top"), kDiskBytes);
  v1::BlockdevOptions options = Qcow2Options("top", operate().FileOf("top"));
  options.mutable_qcow2()->mutable_backing()->set_reference("disk0");
  operate().Do(Add(options));
  guest("top").Write(2, Clusters(1, 2));
  v1::BlockExportAddRequest add = ExportAdd("look", "top", false, {}, "look");
  add.mutable_nbd()->set_allocation_depth(true);
  operate().Do(add);
  const auto client = Connect("look", {"qemu:allocation-depth"});
  ASSERT_TRUE(client->connected()) << client->error();
  EXPECT_THAT(client->Extents("qemu:allocation-depth"),
              ElementsAre(Extent{Clusters(0, 1), 2}, Extent{Clusters(1, 2), 1},
                          Extent{Clusters(3, 125), 0}));
}

TEST_P(ExportScenarios, ABitmapIsToldAsItsOwnContext) {
  operate().Do(BitmapAdd("disk0", "b0"));
  guest().Write(1, Clusters(4, 3));
  operate().Do(BitmapDisable("disk0", "b0"));
  operate().Do(ExportAdd("look", "disk0", false, {"b0"}, "look"));
  const auto client = Connect("look", {"qemu:dirty-bitmap:b0", "base:allocation"});
  ASSERT_TRUE(client->connected()) << client->error();
  EXPECT_EQ(nbd_can_meta_context(client->handle(), "qemu:dirty-bitmap:b0"), 1);
  EXPECT_THAT(client->Extents("qemu:dirty-bitmap:b0"),
              ElementsAre(Extent{Clusters(0, 4), 0}, Extent{Clusters(4, 3), 1},
                          Extent{Clusters(7, 121), 0}));
}

TEST_P(ExportScenarios, ABitmapOfANodeBelowCanBeShown) {
  operate().Do(BitmapAdd("disk0", "b0"));
  guest().Write(1, Clusters(4, 3));
  Unplug();
  Image::Create(operate().FileOf("top"), kDiskBytes);
  v1::BlockdevOptions options = Qcow2Options("top", operate().FileOf("top"));
  options.mutable_qcow2()->mutable_backing()->set_reference("disk0");
  operate().Do(Add(options));
  operate().Do(ExportAdd("look", "top", true, {"disk0:b0"}, "look"));
  const auto client = Connect("look", {"qemu:dirty-bitmap:b0"});
  ASSERT_TRUE(client->connected()) << client->error();
  EXPECT_EQ(client->ExtentsWith("qemu:dirty-bitmap:b0", 1), Ranges{Clusters(4, 3)});
}

TEST_P(ExportScenarios, ExportsAreListedNewestFirst) {
  operate().StartNbd();
  v1::BlockExportAddRequest first = ExportAdd("e0", "disk0", false, {}, "first");
  first.mutable_nbd()->set_description("the first one");
  operate().Do(first);
  operate().Do(ExportAdd("e1", "disk0", true));
  std::vector<std::string> ids;
  for (const auto& info : operate().Exports()) {
    ids.push_back(info.id());
    EXPECT_EQ(info.type(), v1::BLOCK_EXPORT_TYPE_NBD);
    EXPECT_EQ(info.node_name(), "disk0");
    EXPECT_FALSE(info.shutting_down());
  }
  EXPECT_THAT(ids, ElementsAre("e1", "e0"));
  EXPECT_THAT(ListExports(operate().nbd_socket()),
              ::testing::UnorderedElementsAre("first (the first one)", "disk0 ()"));
}

TEST_P(ExportScenarios, NamesAreUsedOnce) {
  operate().StartNbd();
  operate().Do(ExportAdd("e0", "disk0", true));
  ExpectRefused(ExportAdd("e0", "disk0", true, {}, "other"), kExists, {"e0"});
  ExpectRefused(ExportAdd("e1", "disk0", true), kExists, {"disk0"});
}

TEST_P(ExportScenarios, RefusedExports) {
  operate().StartNbd();
  operate().Do(BitmapAdd("disk0", "b0"));
  constexpr auto kField = v1::ERROR_REASON_INVALID_FIELD;
  ExpectRefused(ExportAdd("1e", "disk0", true), kField, {"id", "1e"});
  ExpectRefused(ExportAdd("e0", "disk9", true), v1::ERROR_REASON_NODE_NOT_FOUND, {"disk9"});
  ExpectRefused(ExportAdd("e0", "disk0", true, {"b9"}), v1::ERROR_REASON_BITMAP_NOT_FOUND, {"b9"});
  ExpectRefused(ExportAdd("e0", "disk0", true, {}, std::string(4097, 'n')), kField, {"nbd.name"});
  ExpectRefused(ExportAdd("e0", "disk0", false, {"b0"}), v1::ERROR_REASON_INVALID_COMBINATION,
                {"b0"});
  v1::BlockExportAddRequest none = ExportAdd("e0", "disk0", true);
  none.clear_type();
  ExpectRefused(none, kField, {"type"});
  ExpectRefused(ExportDel("e9"), v1::ERROR_REASON_EXPORT_NOT_FOUND, {"e9"});
}

TEST_P(ExportScenarios, AConnectedClientHoldsASafeRemoval) {
  operate().StartNbd();
  operate().Do(ExportAdd("e0", "disk0", true));
  auto client = Connect("disk0");
  client->Write(1, Clusters(0, 1));
  ExpectRefused(ExportDel("e0"), v1::ERROR_REASON_EXPORT_IN_USE, {"e0"});
  operate().Do(ExportDel("e0", v1::BLOCK_EXPORT_REMOVE_MODE_HARD));
  EXPECT_TRUE(events().WaitForKind("e0", v1::EVENT_KIND_BLOCK_EXPORT_DELETED));
  EXPECT_NE(client->TryRead({0, 512}), 0);
  operate().Detach("disk0");
  EXPECT_THAT(image("disk0").Contents(), HoldsSameAs(ModelOf("disk0")->bytes()));
}

TEST_P(ExportScenarios, AnIdleExportIsRemovedSafely) {
  operate().StartNbd();
  operate().Do(ExportAdd("e0", "disk0", true));
  operate().Do(ExportDel("e0"));
  EXPECT_TRUE(events().WaitForKind("e0", v1::EVENT_KIND_BLOCK_EXPORT_DELETED));
  const auto client = Connect("disk0");
  EXPECT_FALSE(client->connected());
  EXPECT_THAT(client->error(), ::testing::HasSubstr("disk0"));
}

TEST_P(ExportScenarios, TheOlderCommandsUseTheNameAsId) {
  operate().StartNbd();
  v1::NbdServerAddRequest add;
  add.set_device("disk0");
  add.set_name("shown");
  add.set_writable(true);
  operate().Do(add);
  EXPECT_EQ(operate().Exports()[0].id(), "shown");
  ExpectRefused(add, kExists, {"shown"});
  EXPECT_TRUE(Connect("shown")->connected());
  v1::NbdServerRemoveRequest remove;
  remove.set_name("shown");
  operate().Do(ExportAdd("id", "disk0", true, {}, "other"));
  remove.set_name("other");
  ExpectRefused(remove, v1::ERROR_REASON_EXPORT_NOT_FOUND, {"other"});
  remove.set_name("shown");
  remove.set_mode(v1::BLOCK_EXPORT_REMOVE_MODE_HARD);
  operate().Do(remove);
  EXPECT_TRUE(events().WaitForKind("shown", v1::EVENT_KIND_BLOCK_EXPORT_DELETED));
}

TEST_P(ExportScenarios, AGuestThatDisappearsLeavesTheDiskUsable) {
  guest().Write(1, Clusters(0, 1));
  {
    Guest lost(PlaceOf("disk0"), ModelOf("disk0"));
    lost.Write(2, Clusters(1, 1));
    // The socket is closed without a word.
    shutdown(static_cast<int>(nbd_aio_get_fd(lost.handle())), SHUT_RDWR);
  }
  EXPECT_THAT(guest().ReadAll(), HoldsSameAs(ModelOf("disk0")->bytes()));
  Unplug();
  operate().Detach("disk0");
}

TEST_P(ExportScenarios, NonsenseOnTheSocketHarmsNobody) {
  guest().Write(1, Clusters(0, 2));
  for (const std::string& bytes :
       {std::string(1000, '\xff'), std::string(1000, '\0'), std::string("GET / HTTP/1.1\r\n\r\n"),
        std::string("\0\0\0\3IHAVEOPT\0\0\0\7\xff\xff\xff\xff", 20)}) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    const std::string path = operate().nbd_socket();
    memcpy(address.sun_path, path.c_str(), path.size());
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ASSERT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    shutdown(fd, SHUT_WR);
    // The server hangs up: all that it says can be read to its end.
    char buffer[4096];
    while (read(fd, buffer, sizeof(buffer)) > 0) {
    }
    close(fd);
  }
  EXPECT_THAT(guest().ReadAll(), HoldsSameAs(ModelOf("disk0")->bytes()));
}

ON_EVERY_BACKEND(ExportScenarios);

}  // namespace
}  // namespace tidemark::test
