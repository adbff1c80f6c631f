// Chains that one engine begins and the other goes on with, and QEMU's tools as clients of our
// exports: whoever starts with us can leave, and the other way round.
#include "absl/time/clock.h"
#include "tests/conformance/conformance.h"
#include "tests/support/process.h"
#include "tests/support/storage_daemon.h"

namespace tidemark::test {
namespace {

class InteropScenarios : public Conformance {
 protected:
  // Waits until QEMU's job is gone.
  void AwaitJobOf(StorageDaemon& qemu) {
    const absl::Time deadline = absl::Now() + absl::Seconds(30);
    while (qemu.Run("query-jobs", "{}") != "[]" && absl::Now() < deadline) {
      absl::SleepFor(absl::Milliseconds(10));
    }
    EXPECT_EQ(qemu.Run("query-jobs", "{}"), "[]");
  }
  // "nbd+unix:///disk0?socket=...".
  std::string UriOf(const std::string& node) {
    const NbdPlace place = PlaceOf(node);
    return "nbd+unix:///" + place.export_name + "?socket=" + place.socket;
  }
};

TEST_P(InteropScenarios, QemuGoesOnWithAChainThatWeBegan) {
  operate().CreateDisk("disk0");
  operate().CreateDisk("full");
  guest().Write(1, Clusters(0, 40));
  operate().Do(Transact(BitmapAdd("disk0", "b0", absl::nullopt, /*persistent=*/true),
                        Backup({.target = "full"})));
  operate().Finish("job0");
  guest().Write(2, Clusters(10, 3));
  DetachAndCheck({"disk0", "full"});

  Image::Create(operate().FileOf("inc0"), kDiskBytes);
  StorageDaemon qemu(&folder());
  ASSERT_TRUE(qemu.started());
  ASSERT_EQ(qemu.Open("disk0", operate().FileOf("disk0")), "");
  ASSERT_EQ(qemu.Open("inc0", operate().FileOf("inc0")), "");
  EXPECT_EQ(qemu.Try("blockdev-backup", R"({"job-id": "j", "device": "disk0", "target": "inc0",
      "sync": "incremental", "bitmap": "b0"})"),
            "");
  AwaitJobOf(qemu);
  EXPECT_EQ(qemu.Stop(), 0);
  EXPECT_THAT(image("inc0"), AllocatesExactly(Ranges{Clusters(10, 3)}));
  EXPECT_THAT(image("inc0").Over(image("full")).Contents(), HoldsSameAs(ModelOf("disk0")->bytes()));

  // And back: the bitmap that QEMU saved is clean and records on.
  operate().Attach("disk0");
  EXPECT_EQ(operate().Bitmap("disk0", "b0").count(), 0);
  guest().Write(3, Clusters(50, 1));
  EXPECT_EQ(operate().Marks("disk0", "b0"), Ranges{Clusters(50, 1)});
}

TEST_P(InteropScenarios, WeGoOnWithAChainThatQemuBegan) {
  Image::Create(operate().FileOf("disk0"), kDiskBytes);
  Image::Create(operate().FileOf("full"), kDiskBytes);
  const auto model = std::make_shared<ByteModel>(kDiskBytes);
  {
    StorageDaemon qemu(&folder());
    ASSERT_TRUE(qemu.started());
    ASSERT_EQ(qemu.Open("disk0", operate().FileOf("disk0")), "");
    ASSERT_EQ(qemu.Open("full", operate().FileOf("full")), "");
    qemu.Export("disk0");
    Guest guest({qemu.nbd_socket(), "disk0"}, model);
    ASSERT_TRUE(guest.connected()) << guest.error();
    guest.Write(1, Clusters(0, 40));
    EXPECT_EQ(qemu.Try("transaction", R"({"actions": [
        {"type": "block-dirty-bitmap-add",
         "data": {"node": "disk0", "name": "b0", "persistent": true}},
        {"type": "blockdev-backup",
         "data": {"job-id": "j", "device": "disk0", "target": "full", "sync": "full"}}]})"),
              "");
    AwaitJobOf(qemu);
    guest.Write(2, Clusters(10, 3));
    guest.Zero(Clusters(20, 1));
    EXPECT_EQ(qemu.Stop(), 0);
  }
  operate().Attach("disk0");
  operate().CreateDisk("inc0");
  operate().Do(Backup({.target = "inc0", .sync = kIncremental, .bitmap = "b0"}));
  operate().Finish("job0");
  DetachAndCheck({"disk0", "inc0"});
  EXPECT_THAT(image("inc0"), AllocatesExactly(Ranges{Clusters(10, 3), Clusters(20, 1)}));
  EXPECT_THAT(image("inc0").Over(image("full")).Contents(), HoldsSameAs(model->bytes()));
}

TEST_P(InteropScenarios, BothHashABitmapAlikeWhileItIsInUse) {
  operate().CreateDisk("disk0");
  operate().Do(BitmapAdd("disk0", "b0", 4096));
  Image::Create(folder().File("theirs.qcow2"), kDiskBytes);
  StorageDaemon qemu(&folder());
  ASSERT_TRUE(qemu.started());
  ASSERT_EQ(qemu.Open("theirs", folder().File("theirs.qcow2")), "");
  qemu.Run("block-dirty-bitmap-add", R"({"node": "theirs", "name": "b0", "granularity": 4096})");
  qemu.Export("theirs");
  Guest other({qemu.nbd_socket(), "theirs"}, std::make_shared<ByteModel>(kDiskBytes));
  ASSERT_TRUE(other.connected()) << other.error();
  uint64_t at = 77;
  for (int i = 0; i < 40; ++i) {
    at = (at * 6364136223846793005u + 1442695040888963407u) % (kDiskBytes - 70000);
    const Range range{at, 1 + at % 70000};
    guest().Write(1, range);
    other.Write(1, range);
  }
  EXPECT_EQ(operate().Sha256("disk0", "b0"), qemu.Sha256("theirs", "b0"));
}

TEST_P(InteropScenarios, QemuImgReadsOurExports) {
  operate().CreateDisk("disk0");
  guest().Write(1, Clusters(3, 5));
  guest().Write(2, {kMiB + 100, 5000});
  const std::string copy = folder().File("copy.raw");
  const ToolResult convert =
      RunTool({"qemu-img", "convert", "-f", "raw", "-O", "raw", UriOf("disk0"), copy});
  EXPECT_EQ(convert.exit_status, 0) << convert.errors;
  EXPECT_THAT(ReadFile(copy), HoldsSameAs(ModelOf("disk0")->bytes()));
  const ToolResult compare =
      RunTool({"qemu-img", "compare", "-f", "raw", "-F", "raw", UriOf("disk0"), copy});
  EXPECT_EQ(compare.exit_status, 0) << compare.output << compare.errors;
}

TEST_P(InteropScenarios, QemuImgShowsOurBitmapsInverted) {
  operate().CreateDisk("disk0");
  operate().Do(BitmapAdd("disk0", "b0"));
  guest().Write(1, Clusters(4, 2));
  operate().Do(BitmapDisable("disk0", "b0"));
  operate().Do(ExportAdd("look", "disk0", /*writable=*/false, {"b0"}, "look"));
  // What is dirty appears as no data.
  const ToolResult map =
      RunTool({"qemu-img", "map", "--output=json", "--image-opts",
               "driver=nbd,export=look,server.type=unix,server.path=" + operate().nbd_socket() +
                   ",x-dirty-bitmap=qemu:dirty-bitmap:b0"});
  EXPECT_EQ(map.exit_status, 0) << map.errors;
  EXPECT_THAT(map.output, ::testing::ContainsRegex(
                              "\"start\": 262144, \"length\": 131072[^}]*\"data\": false"));
}

TEST_P(InteropScenarios, QemuIsAClientThatWrites) {
  operate().CreateDisk("disk0");
  operate().Do(BitmapAdd("disk0", "b0"));
  const ToolResult io =
      RunTool({"qemu-io", "-f", "raw", "-c", "write -P 7 1M 128k", "-c", "write -z 4M 64k", "-c",
               "discard 5M 64k", "-c", "flush", "-c", "read -P 7 1M 128k", UriOf("disk0")});
  EXPECT_EQ(io.exit_status, 0) << io.output << io.errors;
  EXPECT_THAT(io.output, ::testing::Not(::testing::HasSubstr("failed")));
  EXPECT_EQ(operate().Marks("disk0", "b0"),
            Merged({Clusters(16, 2), Clusters(64, 1), Clusters(80, 1)}));
  DetachAndCheck({"disk0"});
}

ON_EVERY_BACKEND(InteropScenarios);

}  // namespace
}  // namespace tidemark::test
