// Snapshots of disks: overlays put above them, and tables inside the image.
#include "absl/strings/str_cat.h"
#include "tests/conformance/some_engines.h"

namespace tidemark::test {
namespace {

class SnapshotScenarios : public SomeEngines {
 protected:
  // An empty overlay, opened without what it records.
  void CreateOverlay(const std::string& node) {
    Image::Create(operate().FileOf(node), kDiskBytes);
    image(node).Over(image("disk0"));
    v1::BlockdevOptions options = Qcow2Options(node, operate().FileOf(node));
    options.mutable_qcow2()->mutable_backing()->mutable_none();
    operate().Do(Add(options));
  }
  v1::BlockdevSnapshotRequest Snapshot() {
    return Parse<v1::BlockdevSnapshotRequest>("node: 'disk0' overlay: 'overlay0'");
  }
  // With an overlay that is made for it.
  v1::BlockdevSnapshotSyncRequest SnapshotSync() {
    auto request =
        Parse<v1::BlockdevSnapshotSyncRequest>("node_name: 'disk0' snapshot_node_name: 'overlay0'");
    request.set_snapshot_file(operate().FileOf("overlay0"));
    return request;
  }
  v1::BlockdevSnapshotInternalSyncRequest Internal(const std::string& name) {
    v1::BlockdevSnapshotInternalSyncRequest request;
    request.set_device("disk0");
    request.set_name(name);
    return request;
  }
  std::vector<std::string> Snapshots() {
    std::vector<std::string> names;
    const v1::BlockDeviceInfo node = operate().Node("disk0");
    for (const auto& snapshot : node.image().snapshots()) {
      names.push_back(snapshot.name());
    }
    return names;
  }

  void BackUpAcrossASnapshot(v1::MirrorSyncMode sync) {
    if (!Has(Snapshot())) return;
    CreateFullDisk();
    const std::string before = guest().model().bytes();
    operate().CreateDisk("target0");
    operate().Do(Backup({.sync = sync, .speed = kHold}));
    guest().Write(2, Clusters(0, 20));
    CreateOverlay("overlay0");
    operate().Do(Snapshot());
    guest().Write(3, Clusters(10, 30));
    operate().ReleaseAndFinish("job0");
    EXPECT_THAT(guest().ReadAll(), HoldsSameAs(guest().model().bytes()));
    Unplug();
    DetachAndCheck({"overlay0", "disk0", "target0"});
    EXPECT_THAT(image("target0").Contents(), HoldsSameAs(before));
    EXPECT_THAT(image("overlay0").Contents(), HoldsSameAs(ModelOf("disk0")->bytes()));
  }
};

ON_EVERY_BACKEND(SnapshotScenarios);

TEST_P(SnapshotScenarios, WritesGoToTheOverlayFromThenOn) {
  if (!Has(Snapshot())) return;
  operate().CreateDisk("disk0");
  guest().Write(1, Clusters(0, 10));
  const std::string before = guest().model().bytes();
  CreateOverlay("overlay0");
  operate().Do(Snapshot());
  EXPECT_TRUE(operate().Node("disk0").ro());
  EXPECT_EQ(operate().Exports()[0].node_name(), "overlay0");
  guest().Write(2, Clusters(5, 10));
  EXPECT_THAT(guest().ReadAll(), HoldsSameAs(guest().model().bytes()));
  Unplug();
  DetachAndCheck({"overlay0", "disk0"});
  EXPECT_THAT(image("disk0").Contents(), HoldsSameAs(before));
  EXPECT_THAT(image("overlay0").Contents(), HoldsSameAs(ModelOf("disk0")->bytes()));
}

TEST_P(SnapshotScenarios, AnOverlayThatHasABackingImageIsRefused) {
  if (!Has(Snapshot())) return;
  operate().CreateDisk("disk0");
  operate().CreateDisk("other");
  Image::Create(operate().FileOf("overlay0"), kDiskBytes);
  v1::BlockdevOptions options = Qcow2Options("overlay0", operate().FileOf("overlay0"));
  options.mutable_qcow2()->mutable_backing()->set_reference("other");
  operate().Do(Add(options));
  EXPECT_FALSE(operate().Try(Snapshot()).ok());
  EXPECT_FALSE(operate().Node("disk0").ro());
}

TEST_P(SnapshotScenarios, AnOverlayIsCreatedForAGuest) {
  const auto snapshot = SnapshotSync();
  if (!Has(snapshot)) return;
  operate().CreateDisk("disk0");
  guest().Write(1, Clusters(0, 10));
  operate().Do(snapshot);
  EXPECT_EQ(operate().Exports()[0].node_name(), "overlay0");
  guest().Write(2, Clusters(5, 10));
  EXPECT_THAT(guest().ReadAll(), HoldsSameAs(guest().model().bytes()));
  Unplug();
  EXPECT_FALSE(operate().HasNode("overlay0")) << "it went with its last user";
  DetachAndCheck({"disk0"});
  EXPECT_EQ(image("overlay0").Info("/backing-filename"), operate().FileOf("disk0"));
  EXPECT_THAT(image("overlay0").Contents(), HoldsSameAs(ModelOf("disk0")->bytes()));
}

TEST_P(SnapshotScenarios, TheOverlayOfANodeNeedsAName) {
  v1::BlockdevSnapshotSyncRequest snapshot;
  snapshot.set_node_name("disk0");
  snapshot.set_snapshot_file(operate().FileOf("overlay0"));
  ExpectRefused(snapshot, v1::ERROR_REASON_INVALID_COMBINATION, {"snapshot_node_name"});
}

TEST_P(SnapshotScenarios, WhatCannotBeAnOverlayIsRefused) {
  operate().CreateDisk("disk0");
  CreateOverlay("overlay0");
  auto snapshot = Snapshot();
  if (!Has(snapshot)) return;
  snapshot.set_node("nobody");
  ExpectRefused(snapshot, v1::ERROR_REASON_NODE_NOT_FOUND, {"nobody"});
  snapshot = Snapshot();
  snapshot.set_overlay("nobody");
  ExpectRefused(snapshot, v1::ERROR_REASON_NODE_NOT_FOUND, {"nobody"});
  snapshot.set_overlay("disk0");
  EXPECT_FALSE(operate().Try(snapshot).ok());
  Image::Create(operate().FileOf("flat"), kDiskBytes, "raw");
  operate().Do(Add(RawOptions("flat", operate().FileOf("flat"))));
  snapshot.set_overlay("flat");
  ExpectRefused(snapshot, v1::ERROR_REASON_NODE_LACKS_FEATURE, {});
  operate().StartNbd();
  operate().Do(ExportAdd("other-guest", "overlay0", /*writable=*/true));
  ExpectRefused(Snapshot(), v1::ERROR_REASON_NODE_BUSY, {});
}

TEST_P(SnapshotScenarios, AnOverlayBelowItsOwnNodeIsRefused) {
  if (!Has(Snapshot())) return;
  CreateOverlay("overlay0");
  Image::Create(operate().FileOf("disk0"), kDiskBytes);
  v1::BlockdevOptions options = Qcow2Options("disk0", operate().FileOf("disk0"));
  options.mutable_qcow2()->mutable_backing()->set_reference("overlay0");
  operate().Do(Add(options));
  ExpectRefused(Snapshot(), v1::ERROR_REASON_INVALID_COMBINATION, {"disk0", "overlay0"});
}

TEST_P(SnapshotScenarios, WhatCannotBeCreatedAsAnOverlayIsRefused) {
  const auto snapshot = SnapshotSync();
  if (!Has(snapshot)) return;
  operate().CreateDisk("disk0");
  auto wrong = snapshot;
  wrong.set_node_name("nobody");
  ExpectRefused(wrong, v1::ERROR_REASON_NODE_NOT_FOUND, {"nobody"});
  wrong = snapshot;
  wrong.set_snapshot_node_name("disk0");
  ExpectRefused(wrong, v1::ERROR_REASON_NODE_EXISTS, {});
  wrong = snapshot;
  wrong.set_format("raw");
  ExpectRefused(wrong, v1::ERROR_REASON_NODE_LACKS_FEATURE, {"raw"});
  wrong.set_format("no-format");
  ExpectRefused(wrong, v1::ERROR_REASON_INVALID_FIELD, {"no-format"});
  wrong = snapshot;
  wrong.set_snapshot_file(folder().File("nowhere/overlay"));
  ExpectRefused(wrong, v1::ERROR_REASON_FILE_NOT_FOUND, {"nowhere/overlay"});
  wrong = snapshot;
  wrong.set_mode(v1::NEW_IMAGE_MODE_EXISTING);
  ExpectRefused(wrong, v1::ERROR_REASON_FILE_NOT_FOUND, {operate().FileOf("overlay0")});
}

// QEMU lets go of it at once.
TEST_P(SnapshotScenarios, AnOverlayWithoutUsersStaysWithTheNativeEngineAlone) {
  const auto snapshot = SnapshotSync();
  if (!Has(snapshot)) return;
  operate().CreateDisk("disk0");
  operate().Do(snapshot);
  EXPECT_TRUE(operate().Node("disk0").ro());
  EXPECT_EQ(operate().HasNode("overlay0"), GetParam().name == "Native");
}

// A job's filter uses it, and goes with the job.
TEST_P(SnapshotScenarios, AnOverlayThatOnlyAJobUsesStaysWithTheNativeEngine) {
  const auto snapshot = SnapshotSync();
  if (!Has(snapshot) || GetParam().name != "Native") return;
  CreateFullDisk();
  Unplug();
  operate().CreateDisk("target0");
  operate().Do(Backup({.speed = kHold}));
  operate().Do(snapshot);
  operate().CancelAndAwait("job0");
  EXPECT_TRUE(operate().HasNode("overlay0"));
  DetachAndCheck({"overlay0", "disk0", "target0"});
}

// QEMU writes down a whole description there, which it alone can read.
TEST_P(SnapshotScenarios, APartOfAFileIsNotRecordedAsAllOfIt) {
  const auto snapshot = SnapshotSync();
  if (!Has(snapshot) || GetParam().name != "Native") return;
  Image::Create(operate().FileOf("file0"), 2 * kDiskBytes, "raw");
  v1::BlockdevOptions options = RawOptions("disk0", operate().FileOf("file0"));
  options.mutable_raw()->set_offset(kDiskBytes);
  options.mutable_raw()->set_size(kDiskBytes);
  operate().Do(Add(options));
  ExpectRefused(snapshot, v1::ERROR_REASON_NODE_LACKS_FEATURE, {"disk0"});
  EXPECT_FALSE(operate().HasNode("overlay0"));
}

TEST_P(SnapshotScenarios, WhatAnImageDoesNotRecordIsToBeRecordedFirst) {
  auto snapshot = SnapshotSync();
  if (!Has(snapshot) || GetParam().name != "Native") return;
  CreateFullDisk();
  Image::Create(operate().FileOf("overlay0"), kDiskBytes);
  v1::BlockdevOptions options = Qcow2Options("overlay0", operate().FileOf("overlay0"));
  options.mutable_qcow2()->mutable_backing()->mutable_none();
  operate().Do(Add(options));
  operate().Do(Snapshot());
  snapshot.set_node_name("overlay0");
  snapshot.set_snapshot_node_name("overlay1");
  snapshot.set_snapshot_file(operate().FileOf("overlay1"));
  ExpectRefused(snapshot, v1::ERROR_REASON_INVALID_COMBINATION, {"overlay0", "disk0"});
  auto change =
      Parse<v1::ChangeBackingFileRequest>("device: 'overlay0' image_node_name: 'overlay0'");
  change.set_backing_file(operate().FileOf("disk0"));
  operate().Do(change);
  operate().Do(snapshot);
  guest().Write(5, Clusters(7, 9));
  Unplug();
  DetachAndCheck({"overlay0", "disk0"});
  EXPECT_THAT(image("overlay1").Contents(), HoldsSameAs(ModelOf("disk0")->bytes()));
}

TEST_P(SnapshotScenarios, ANodeBelowAnOverlayIsNotWrittenAlsoWhileAJobUsesItsBitmap) {
  if (!Has(Snapshot())) return;
  CreateFullDisk();
  operate().CreateDisk("target0");
  operate().Do(BitmapAdd("disk0", "b", absl::nullopt, /*persistent=*/true));
  guest().Write(2, Clusters(0, 100));
  operate().Do(Backup({.sync = v1::MIRROR_SYNC_MODE_INCREMENTAL, .bitmap = "b", .speed = kHold}));
  CreateOverlay("overlay0");
  operate().Do(Snapshot());
  EXPECT_FALSE(operate().Try(ExportAdd("late", "disk0", /*writable=*/true)).ok());
  operate().ReleaseAndFinish("job0");
  EXPECT_FALSE(operate().Try(ExportAdd("late", "disk0", /*writable=*/true)).ok());
  EXPECT_TRUE(operate().Node("disk0").ro());
  Unplug();
  DetachAndCheck({"overlay0", "disk0", "target0"});
}

// The target's file, below the image that the job writes to.
TEST_P(SnapshotScenarios, WhatAJobWritesIsNotPutBelowAnOverlay) {
  if (!Has(Snapshot()) || GetParam().name != "Native") return;
  CreateFullDisk();
  Image::Create(operate().FileOf("file0"), kDiskBytes, "raw");
  v1::BlockdevOptions file;
  file.set_node_name("file0");
  file.mutable_file()->set_filename(operate().FileOf("file0"));
  operate().Do(Add(file));
  v1::BlockdevOptions raw;
  raw.set_node_name("target0");
  raw.mutable_raw()->mutable_file()->set_reference("file0");
  operate().Do(Add(raw));
  operate().Do(Backup({.speed = kHold}));
  CreateOverlay("overlay0");
  auto snapshot = Snapshot();
  snapshot.set_node("file0");
  ExpectRefused(snapshot, v1::ERROR_REASON_NODE_BUSY, {"file0"});
  operate().CancelAndAwait("job0");
}

TEST_P(SnapshotScenarios, AnOverlayOfAFailingTransactionIsGoneAndItsFileStays) {
  const auto snapshot = SnapshotSync();
  if (!Has(snapshot)) return;
  operate().CreateDisk("disk0");
  guest().Write(1, Clusters(0, 10));
  v1::TransactionRequest transaction;
  *transaction.add_actions()->mutable_blockdev_snapshot_sync() = snapshot;
  transaction.add_actions()->mutable_abort();
  EXPECT_THAT(operate().Try(transaction),
              Refused(v1::ERROR_REASON_TRANSACTION_ABORTED, Mentions{}));
  EXPECT_FALSE(operate().HasNode("overlay0"));
  EXPECT_FALSE(operate().Node("disk0").ro());
  EXPECT_EQ(operate().Exports()[0].node_name(), "disk0");
  guest().Write(2, Clusters(5, 10));
  EXPECT_THAT(guest().ReadAll(), HoldsSameAs(guest().model().bytes()));
  EXPECT_EQ(image("overlay0").Info("/backing-filename"), operate().FileOf("disk0"));
  // Again, over what is left.
  transaction.mutable_actions()->RemoveLast();
  operate().Do(transaction);
  guest().Write(3, Clusters(20, 10));
  Unplug();
  DetachAndCheck({"disk0"});
  EXPECT_THAT(image("overlay0").Contents(), HoldsSameAs(ModelOf("disk0")->bytes()));
}

// Incremental backups go on: what is dirty moves to the overlay at the instant of the snapshot.
TEST_P(SnapshotScenarios, ABitmapGoesOnOnTheOverlay) {
  if (!Has(Snapshot())) return;
  operate().CreateDisk("disk0");
  operate().Do(BitmapAdd("disk0", "b0"));
  guest().Write(1, Clusters(0, 10));
  CreateOverlay("overlay0");
  v1::TransactionRequest transaction;
  *transaction.add_actions()->mutable_blockdev_snapshot() = Snapshot();
  *transaction.add_actions()->mutable_block_dirty_bitmap_add() = BitmapAdd("overlay0", "b0");
  *transaction.add_actions()->mutable_block_dirty_bitmap_merge() =
      BitmapMerge("overlay0", "b0", {"disk0:b0"});
  operate().Do(transaction);
  guest().Write(2, Clusters(5, 10));
  EXPECT_EQ(operate().Bitmap("disk0", "b0").count(), static_cast<int64_t>(10 * kClusterBytes))
      << "nobody writes there any more";
  EXPECT_EQ(operate().Marks("overlay0", "b0"), (Ranges{Clusters(0, 15)}));
}

TEST_P(SnapshotScenarios, PersistentBitmapsOfTheNodeAreSavedAndReadOnly) {
  if (!Has(Snapshot())) return;
  operate().CreateDisk("disk0");
  operate().Do(BitmapAdd("disk0", "kept", absl::nullopt, /*persistent=*/true));
  guest().Write(1, Clusters(0, 10));
  CreateOverlay("overlay0");
  operate().Do(Snapshot());
  ExpectRefused(BitmapClear("disk0", "kept"), v1::ERROR_REASON_BITMAP_READ_ONLY, {"kept"});
  guest().Write(2, Clusters(20, 10));
  EXPECT_EQ(operate().Bitmap("disk0", "kept").count(), static_cast<int64_t>(10 * kClusterBytes));
  const std::vector<StoredBitmap> stored = image("disk0").Bitmaps();
  ASSERT_EQ(stored.size(), 1u);
  EXPECT_THAT(stored[0].flags, ::testing::Not(::testing::Contains("in-use")))
      << "also if the service is killed now";
  Unplug();
  DetachAndCheck({"overlay0", "disk0"});
  operate().Attach("disk0");
  EXPECT_EQ(operate().Bitmap("disk0", "kept").count(), static_cast<int64_t>(10 * kClusterBytes));
}

TEST_P(SnapshotScenarios, ABackupGoesOnWithTheNodeThatItWasStartedOn) {
  BackUpAcrossASnapshot(kFull);
}

// What was the top layer when it began is below another since.
TEST_P(SnapshotScenarios, ABackupOfTheTopLayerGoesOnWithThatToo) { BackUpAcrossASnapshot(kTop); }

// What the target shows besides what was copied is in the node that nobody writes any more.
TEST_P(SnapshotScenarios, AFleecingTargetShowsTheOldDiskAlsoAfterASnapshot) {
  if (!Has(Snapshot())) return;
  CreateFullDisk();
  const std::string before = guest().model().bytes();
  Image::Create(operate().FileOf("target0"), kDiskBytes);
  v1::BlockdevOptions options = Qcow2Options("target0", operate().FileOf("target0"));
  options.mutable_qcow2()->mutable_backing()->set_reference("disk0");
  operate().Do(Add(options));
  operate().Do(Backup({.sync = kNone}));
  guest().Write(2, Clusters(0, 20));
  CreateOverlay("overlay0");
  operate().Do(Snapshot());
  guest().Write(3, Clusters(10, 30));
  operate().Do(ExportAdd("fleece", "target0", /*writable=*/false));
  Guest reader({operate().nbd_socket(), "target0"}, std::make_shared<ByteModel>(kDiskBytes));
  EXPECT_THAT(reader.ReadAll(), HoldsSameAs(before));
  operate().RemoveExport("fleece");
  operate().CancelAndAwait("job0");
  EXPECT_THAT(guest().ReadAll(), HoldsSameAs(guest().model().bytes()));
}

TEST_P(SnapshotScenarios, InternalSnapshotsComeAndGo) {
  if (!Has(Internal("first"))) return;
  operate().CreateDisk("disk0");
  guest().Write(1, Clusters(0, 10));
  Unplug();
  operate().Do(Internal("first"));
  operate().Do(Internal("second"));
  EXPECT_THAT(Snapshots(), ElementsAre("first", "second"));
  ExpectRefused(Internal("first"), v1::ERROR_REASON_SNAPSHOT_EXISTS, {"first"});

  v1::BlockdevSnapshotDeleteInternalSyncRequest remove;
  remove.set_device("disk0");
  remove.set_name("first");
  const auto removed = operate().Do(remove);
  EXPECT_EQ(removed.snapshot().name(), "first");
  EXPECT_GT(removed.snapshot().date_sec(), 0);
  EXPECT_THAT(Snapshots(), ElementsAre("second"));
  ExpectRefused(remove, v1::ERROR_REASON_SNAPSHOT_NOT_FOUND, {"first"});
  DetachAndCheck({"disk0"});
}

TEST_P(SnapshotScenarios, ATransactionTakesSnapshotsAllOrNone) {
  if (!Has(Internal("first"))) return;
  operate().CreateDisk("disk0");
  CreateOverlay("overlay0");
  v1::TransactionRequest failing;
  *failing.add_actions()->mutable_blockdev_snapshot_internal_sync() = Internal("first");
  *failing.add_actions()->mutable_blockdev_snapshot() = Snapshot();
  failing.add_actions()->mutable_abort();
  EXPECT_THAT(operate().Try(failing), Refused(v1::ERROR_REASON_TRANSACTION_ABORTED, Mentions{}));
  EXPECT_THAT(Snapshots(), IsEmpty());
  EXPECT_FALSE(operate().Node("disk0").ro());

  v1::TransactionRequest good = failing;
  good.mutable_actions()->RemoveLast();
  operate().Do(good);
  EXPECT_THAT(Snapshots(), ElementsAre("first"));
  EXPECT_TRUE(operate().Node("disk0").ro());
}

TEST_P(SnapshotScenarios, OnlyBackupsAreGrouped) {
  v1::TransactionRequest grouped;
  grouped.mutable_properties()->set_completion_mode(v1::ACTION_COMPLETION_MODE_GROUPED);
  *grouped.add_actions()->mutable_blockdev_snapshot_internal_sync() = Internal("first");
  ExpectRefused(grouped, v1::ERROR_REASON_INVALID_COMBINATION, {"actions"});
}

}  // namespace
}  // namespace tidemark::test
