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
  auto snapshot =
      Parse<v1::BlockdevSnapshotSyncRequest>("node_name: 'disk0' snapshot_node_name: 'overlay0'");
  snapshot.set_snapshot_file(operate().FileOf("overlay0"));
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
