// Bitmaps that outlive the service: stored in the image, read by QEMU and from QEMU.
#include "tests/conformance/conformance.h"
#include "tests/support/process.h"
#include "tests/support/storage_daemon.h"

namespace tidemark::test {
namespace {

class BitmapPersistence : public Conformance {
 protected:
  void SetUp() override {
    Conformance::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    operate().CreateDisk("disk0");
  }
  void AddPersistent(const std::string& name, bool disabled = false) {
    operate().Do(BitmapAdd("disk0", name, absl::nullopt, /*persistent=*/true, disabled));
  }
  // What a crash may leave behind.
  void ExpectLeaksAtWorst() {
    const ToolResult check = RunTool({"qemu-img", "check", operate().FileOf("disk0")});
    EXPECT_TRUE(check.exit_status == 0 || check.exit_status == 3) << check.output << check.errors;
  }
  void DetachDisk() {
    Unplug();
    operate().Detach("disk0");
    EXPECT_THAT(image("disk0"), IsSound());
  }
};

constexpr auto kInconsistent = v1::ERROR_REASON_BITMAP_INCONSISTENT;
constexpr auto kReadOnly = v1::ERROR_REASON_BITMAP_READ_ONLY;

TEST_P(BitmapPersistence, ABitmapIsStoredWhenItsNodeIsClosed) {
  AddPersistent("kept");
  AddPersistent("frozen", /*disabled=*/true);
  operate().Do(BitmapAdd("disk0", "transient"));
  guest().Write(1, Clusters(3, 2));
  const std::string sha = operate().Sha256("disk0", "kept");
  DetachDisk();
  EXPECT_THAT(image("disk0").Bitmaps(), ElementsAre(StoredBitmap{"frozen", 65536, {}},
                                                    StoredBitmap{"kept", 65536, {"auto"}}));

  operate().Attach("disk0");
  EXPECT_EQ(operate().Sha256("disk0", "kept"), sha);
  const v1::BlockDirtyInfo kept = operate().Bitmap("disk0", "kept");
  EXPECT_TRUE(kept.persistent());
  EXPECT_TRUE(kept.recording());
  EXPECT_FALSE(operate().Bitmap("disk0", "frozen").recording());
  EXPECT_EQ(operate().Bitmap("disk0", "transient").name(), "");
}

TEST_P(BitmapPersistence, ABitmapSurvivesAnOrderlyRestart) {
  AddPersistent("kept");
  guest().Write(1, Clusters(3, 2));
  Restart(/*crash=*/false);
  EXPECT_THAT(image("disk0"), IsSound());
  operate().Attach("disk0");
  EXPECT_EQ(operate().Marks("disk0", "kept"), Ranges{Clusters(3, 2)});
}

TEST_P(BitmapPersistence, WhileTheImageIsOpenItsBitmapsAreInUse) {
  AddPersistent("kept");
  DetachDisk();
  operate().Attach("disk0");
  guest().Write(1, Clusters(3, 2));
  Restart(/*crash=*/true);
  EXPECT_THAT(image("disk0").Bitmaps(),
              ElementsAre(StoredBitmap{"kept", 65536, {"auto", "in-use"}}));
  ExpectLeaksAtWorst();
}

TEST_P(BitmapPersistence, ACrashMakesStoredBitmapsInconsistent) {
  AddPersistent("kept");
  DetachDisk();
  operate().Attach("disk0");
  guest().Write(1, Clusters(3, 2));
  Restart(/*crash=*/true);
  operate().Attach("disk0");
  const v1::BlockDirtyInfo info = operate().Bitmap("disk0", "kept");
  EXPECT_TRUE(info.inconsistent());
  EXPECT_FALSE(info.recording());
  EXPECT_EQ(info.count(), 0);

  // It can be removed, and nothing else.
  operate().Do(BitmapAdd("disk0", "other"));
  operate().CreateDisk("target0");
  const Mentions mentions = {"kept"};
  ExpectRefused(BitmapClear("disk0", "kept"), kInconsistent, mentions);
  ExpectRefused(BitmapEnable("disk0", "kept"), kInconsistent, mentions);
  ExpectRefused(BitmapDisable("disk0", "kept"), kInconsistent, mentions);
  ExpectRefused(BitmapMerge("disk0", "kept", {"other"}), kInconsistent, mentions);
  ExpectRefused(BitmapMerge("disk0", "other", {"kept"}), kInconsistent, mentions);
  ExpectRefused(Backup({.sync = kIncremental, .bitmap = "kept"}), kInconsistent, mentions);
  ExpectRefused(BitmapAdd("disk0", "kept"), v1::ERROR_REASON_BITMAP_EXISTS, mentions);
  ExpectRefused(Resize("disk0", 2 * kDiskBytes), kInconsistent, mentions);
  operate().StartNbd();
  ExpectRefused(ExportAdd("e0", "disk0", true, {"kept"}), kInconsistent, mentions);

  // It stays so over a clean close.
  operate().Detach("disk0");
  operate().Attach("disk0");
  EXPECT_TRUE(operate().Bitmap("disk0", "kept").inconsistent());
  operate().Do(BitmapRemove("disk0", "kept"));
  operate().Detach("disk0");
  EXPECT_THAT(image("disk0").Bitmaps(), IsEmpty());
  ExpectLeaksAtWorst();
}

TEST_P(BitmapPersistence, ABitmapAddedAndLostLeavesNoTrace) {
  AddPersistent("young");
  guest().Write(1, Clusters(3, 2));
  Restart(/*crash=*/true);
  EXPECT_THAT(image("disk0").Bitmaps(), IsEmpty());
  operate().Attach("disk0");
  EXPECT_THAT(operate().Bitmaps("disk0"), IsEmpty());
}

TEST_P(BitmapPersistence, RemovalReachesTheFileAtOnce) {
  AddPersistent("kept");
  DetachDisk();
  operate().Attach("disk0");
  operate().Do(BitmapRemove("disk0", "kept"));
  Restart(/*crash=*/true);
  EXPECT_THAT(image("disk0").Bitmaps(), IsEmpty());
}

TEST_P(BitmapPersistence, ABusyBitmapIsSavedWhenTheServiceStops) {
  AddPersistent("kept");
  guest().Write(1, Clusters(0, 64));
  operate().CreateDisk("target0");
  operate().Do(Backup({.sync = kIncremental, .bitmap = "kept", .speed = kHold}));
  guest().Write(2, Clusters(100, 1));
  Restart(/*crash=*/false);
  EXPECT_THAT(image("disk0"), IsSound());
  operate().Attach("disk0");
  EXPECT_EQ(operate().Marks("disk0", "kept"), Merged({Clusters(0, 64), Clusters(100, 1)}));
}

TEST_P(BitmapPersistence, AReadOnlyImageShowsItsBitmapsAndKeepsThem) {
  AddPersistent("kept");
  guest().Write(1, Clusters(3, 2));
  DetachDisk();
  v1::BlockdevOptions options = Qcow2Options("disk0", operate().FileOf("disk0"));
  options.set_read_only(true);
  operate().Do(Add(options));
  EXPECT_EQ(operate().Bitmap("disk0", "kept").count(), static_cast<int64_t>(2 * kClusterBytes));
  operate().CreateDisk("disk1");
  operate().CreateDisk("target0");
  operate().Do(BitmapAdd("disk1", "copy"));
  const Mentions mentions = {"kept"};
  ExpectRefused(BitmapClear("disk0", "kept"), kReadOnly, mentions);
  ExpectRefused(BitmapRemove("disk0", "kept"), kReadOnly, mentions);
  ExpectRefused(BitmapMerge("disk0", "kept", {"disk1:copy"}), kReadOnly, mentions);
  ExpectRefused(Backup({.sync = kIncremental, .bitmap = "kept"}), kReadOnly, mentions);
  operate().Do(BitmapMerge("disk1", "copy", {"disk0:kept"}));
  EXPECT_EQ(operate().Marks("disk1", "copy"), Ranges{Clusters(3, 2)});
  // As a mere selection it may drive a backup.
  operate().Do(Backup({.sync = kBitmap, .bitmap = "kept", .mode = kNever}));
  operate().Finish("job0");
  EXPECT_EQ(operate().Marks("disk0", "kept"), Ranges{Clusters(3, 2)});
}

TEST_P(BitmapPersistence, QemuReadsWhatWeStore) {
  operate().Do(BitmapAdd("disk0", "b0", 512, /*persistent=*/true));
  guest().Write(1, {512 * 77, 512 * 3});
  guest().Write(1, Clusters(100, 28));
  const std::string sha = operate().Sha256("disk0", "b0");
  DetachDisk();
  StorageDaemon qemu(&folder());
  ASSERT_TRUE(qemu.started());
  ASSERT_EQ(qemu.Open("theirs", operate().FileOf("disk0")), "");
  EXPECT_EQ(qemu.Sha256("theirs", "b0"), sha);
  qemu.Export("theirs");
  {
    Guest other({qemu.nbd_socket(), "theirs"}, ModelOf("disk0"));
    ASSERT_TRUE(other.connected()) << other.error();
    other.Write(5, Clusters(50, 1));
  }
  const std::string grown = qemu.Sha256("theirs", "b0");
  EXPECT_NE(grown, sha);
  EXPECT_EQ(qemu.Stop(), 0);

  operate().Attach("disk0");
  EXPECT_EQ(operate().Sha256("disk0", "b0"), grown);
  EXPECT_THAT(guest().ReadAll(), HoldsSameAs(ModelOf("disk0")->bytes()));
}

TEST_P(BitmapPersistence, EqualMarksHashAsInQemu) {
  const std::vector<Range> writes = {{0, 1}, {777777, 99999}, {kDiskBytes - 1, 1}, Clusters(8, 9)};
  for (uint32_t granularity : {512u, 4096u, 65536u, 1u << 20, 1u << 24}) {
    operate().Do(
        BitmapAdd("disk0", "g" + std::to_string(granularity), granularity, /*persistent=*/true));
  }
  for (Range range : writes) guest().Write(3, range);
  std::map<std::string, std::string> ours;
  for (const auto& info : operate().Bitmaps("disk0")) {
    ours[info.name()] = operate().Sha256("disk0", info.name());
  }
  EXPECT_EQ(ours.size(), 5u);
  DetachDisk();
  StorageDaemon qemu(&folder());
  ASSERT_TRUE(qemu.started());
  ASSERT_EQ(qemu.Open("theirs", operate().FileOf("disk0"), /*read_only=*/true), "");
  for (const auto& [name, sha] : ours) EXPECT_EQ(qemu.Sha256("theirs", name), sha) << name;
}

TEST_P(BitmapPersistence, BitmapsOfQemuImgAreLoadedWithTheirFlags) {
  DetachDisk();
  const std::string path = operate().FileOf("disk0");
  ASSERT_EQ(RunTool({"qemu-img", "bitmap", "--add", "-g", "128k", path, "on"}).exit_status, 0);
  ASSERT_EQ(RunTool({"qemu-img", "bitmap", "--add", "--disable", path, "off"}).exit_status, 0);
  operate().Attach("disk0");
  EXPECT_EQ(operate().Bitmap("disk0", "on").granularity(), 131072u);
  EXPECT_TRUE(operate().Bitmap("disk0", "on").recording());
  EXPECT_FALSE(operate().Bitmap("disk0", "off").recording());
  // While we have it open, qemu-img keeps out.
  EXPECT_NE(RunTool({"qemu-img", "bitmap", "--remove", path, "on"}).exit_status, 0);
}

TEST_P(BitmapPersistence, ABitmapThatItsImageCannotHoldIsRefusedWhenItIsAdded) {
  DetachDisk();
  const std::string path = operate().FileOf("disk0");
  ASSERT_EQ(RunTool({"qemu-img", "create", "-f", "qcow2", path, "64T"}).exit_status, 0);
  operate().Attach("disk0");
  AddPersistent("kept");
  EXPECT_FALSE(operate().Try(BitmapAdd("disk0", "fine", 8192, /*persistent=*/true)).ok());
  EXPECT_TRUE(operate().Bitmap("disk0", "kept").recording());
  operate().Detach("disk0");
  EXPECT_EQ(image("disk0").Bitmaps().size(), 1u);
}

TEST_P(BitmapPersistence, BitmapsSurviveAResizeToNothing) {
  AddPersistent("kept");
  guest().Write(1, Clusters(3, 2));
  Unplug();
  operate().Do(Resize("disk0", 0));
  operate().Do(Resize("disk0", kDiskBytes));
  operate().Detach("disk0");
  EXPECT_THAT(image("disk0"), IsSound());
  EXPECT_THAT(image("disk0").Bitmaps(), ElementsAre(StoredBitmap{"kept", 65536, {"auto"}}));
}

TEST_P(BitmapPersistence, AnImageOfNothingStaysReadable) {
  AddPersistent("kept");
  operate().Do(Resize("disk0", 0));
  operate().Detach("disk0");
  EXPECT_EQ(image("disk0").Info("/virtual-size"), "0");
  operate().Attach("disk0");
}

ON_EVERY_BACKEND(BitmapPersistence);

}  // namespace
}  // namespace tidemark::test
