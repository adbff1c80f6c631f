// Backups without bitmaps: what each sync mode copies, and how a backup lives and ends.
#include "tests/conformance/conformance.h"

namespace tidemark::test {
namespace {

class BackupScenarios : public Conformance {};

TEST_P(BackupScenarios, FullBackupHoldsTheDiskAsItWasAtTheStart) {
  operate().CreateDisk("disk0");
  operate().CreateDisk("target0");
  guest().Write(1, Clusters(3, 30));
  guest().Zero(Clusters(10, 4));
  const std::string before = guest().model().bytes();

  const auto response = operate().Do(Backup({.job = "job0", .speed = kHold}));
  guest().Write(2, Clusters(2, 20));
  operate().ReleaseAndFinish("job0");

  EXPECT_GT(response.event_sequence(), 0u);
  EXPECT_EQ(operate().StoryOf("job0"), Success());
  EXPECT_THAT(guest().ReadAll(), HoldsSameAs(guest().model().bytes()));
  DetachAndCheck({"disk0", "target0"});
  EXPECT_THAT(image("target0").Contents(), HoldsSameAs(before));
}

TEST_P(BackupScenarios, FullBackupLeavesHolesOut) {
  operate().CreateDisk("disk0");
  operate().CreateDisk("target0");
  guest().Write(1, Clusters(5, 2));
  guest().Write(2, {Clusters(20, 1).offset_bytes + 700, 100});
  operate().Do(Backup({}));
  operate().Finish("job0");
  DetachAndCheck({"disk0", "target0"});
  EXPECT_EQ(image("target0").Data(), Merged({Clusters(5, 2), Clusters(20, 1)}));
  EXPECT_EQ(image("disk0").DifferenceFrom(image("target0")), "");
}

TEST_P(BackupScenarios, FullBackupCopiesTheWholeChain) {
  Image::Create(operate().FileOf("base"), kDiskBytes);
  operate().Attach("base");
  guest("base").Write(1, Clusters(0, 8));
  Unplug("base");
  operate().Detach("base");
  Image::Create(operate().FileOf("disk0"), kDiskBytes);
  image("disk0").Over(image("base"));
  operate().Attach("disk0");
  operate().CreateDisk("target0");
  guest().Write(2, Clusters(4, 8));
  operate().Do(Backup({}));
  operate().Finish("job0");
  DetachAndCheck({"disk0", "target0"});
  EXPECT_EQ(image("target0").Data(), Merged({Clusters(0, 12)}));
  EXPECT_EQ(image("disk0").DifferenceFrom(image("target0")), "");
}

TEST_P(BackupScenarios, TopBackupCopiesTheTopImageOnly) {
  Image::Create(operate().FileOf("base"), kDiskBytes);
  operate().Attach("base");
  guest("base").Write(1, Clusters(0, 8));
  Unplug("base");
  operate().Detach("base");
  Image::Create(operate().FileOf("disk0"), kDiskBytes);
  image("disk0").Over(image("base"));
  operate().Attach("disk0");
  operate().CreateDisk("target0");
  guest().Write(2, Clusters(4, 8));

  operate().Do(Backup({.sync = kTop}));
  operate().Finish("job0");

  EXPECT_EQ(operate().Job("job0").total_bytes(), static_cast<int64_t>(8 * kClusterBytes));
  DetachAndCheck({"disk0", "target0"});
  EXPECT_THAT(image("target0"), AllocatesExactly(Ranges{Clusters(4, 8)}));
  EXPECT_EQ(image("disk0").DifferenceFrom(image("target0").Over(image("base"))), "");
}

TEST_P(BackupScenarios, NoneBackupHoldsOldContentsForAsLongAsItRuns) {
  CreateFullDisk();
  const std::string before = guest().model().bytes();
  Image::Create(operate().FileOf("target0"), kDiskBytes);
  v1::BlockdevOptions over = Qcow2Options("target0", operate().FileOf("target0"));
  over.mutable_qcow2()->mutable_backing()->set_reference("disk0");
  operate().Do(Add(over));

  operate().Do(Backup({.sync = kNone}));
  operate().Do(ExportAdd("fleece", "target0", /*writable=*/false));
  guest().Write(2, Clusters(7, 3));
  guest().Write(3, {kMiB + 5, 1000});
  guest().Zero(Clusters(30, 2));
  {
    Guest reader({operate().nbd_socket(), "target0"}, std::make_shared<ByteModel>(kDiskBytes));
    ASSERT_TRUE(reader.connected()) << reader.error();
    EXPECT_THAT(reader.ReadAll(), HoldsSameAs(before));
  }
  EXPECT_THAT(guest().ReadAll(), HoldsSameAs(guest().model().bytes()));
  EXPECT_EQ(operate().QueriedJob("job0").status(), v1::JOB_STATUS_RUNNING);

  // It has no ready, so it cannot be completed: it ends by cancellation only.
  ExpectRefused(OfJob<v1::JobCompleteRequest>("job0"), v1::ERROR_REASON_JOB_STATE, {"job0"});
  operate().RemoveExport("fleece");
  operate().CancelAndAwait("job0");
  EXPECT_EQ(operate().StoryOf("job0"), Cancelled());
  operate().Detach("target0");
  EXPECT_THAT(image("target0"),
              AllocatesExactly(Ranges{Clusters(7, 3), Clusters(16, 1), Clusters(30, 2)}));
}

TEST_P(BackupScenarios, CompressedBackupIsSmallerAndHoldsTheSame) {
  CreateFullDisk();
  operate().CreateDisk("target0");
  operate().CreateDisk("target1");
  operate().Do(Backup({.compress = true}));
  operate().Finish("job0");
  operate().Do(Backup({.job = "job1", .target = "target1"}));
  operate().Finish("job1");
  DetachAndCheck({"disk0", "target0", "target1"});
  EXPECT_EQ(image("disk0").DifferenceFrom(image("target0")), "");
  EXPECT_LT(ReadFile(operate().FileOf("target0")).size() * 2,
            ReadFile(operate().FileOf("target1")).size());
}

TEST_P(BackupScenarios, CompressedBackupUsesTheTargetsCompression) {
  CreateFullDisk();
  operate().CreateDisk("target0", kDiskBytes, "compression_type=zstd");
  operate().Do(Backup({.compress = true}));
  operate().Finish("job0");
  DetachAndCheck({"disk0", "target0"});
  EXPECT_EQ(image("disk0").DifferenceFrom(image("target0")), "");
  EXPECT_LT(ReadFile(operate().FileOf("target0")).size(), kDiskBytes / 2);
}

TEST_P(BackupScenarios, BackupToARawNodeAndOfARawNode) {
  Image::Create(folder().File("disk0.raw"), kDiskBytes, "raw");
  Image::Create(folder().File("target0.raw"), kDiskBytes, "raw");
  operate().Do(Add(RawOptions("disk0", folder().File("disk0.raw"))));
  operate().Do(Add(RawOptions("target0", folder().File("target0.raw"))));
  guest().Write(4, {12345, 400000});
  operate().Do(Backup({}));
  operate().Finish("job0");
  Unplug();
  operate().Detach("disk0");
  operate().Detach("target0");
  EXPECT_THAT(ReadFile(folder().File("target0.raw")), HoldsSameAs(ModelOf("disk0")->bytes()));
}

TEST_P(BackupScenarios, ADiskThatEndsInsideAClusterIsCopiedToItsLastByte) {
  constexpr uint64_t kOdd = 3 * kMiB + 512 * 7;
  operate().CreateDisk("disk0", kOdd);
  operate().CreateDisk("target0", kOdd);
  guest().Write(5, {kOdd - 5000, 5000});
  operate().Do(Backup({}));
  operate().Finish("job0");
  DetachAndCheck({"disk0", "target0"});
  EXPECT_THAT(image("target0").Contents(), HoldsSameAs(ModelOf("disk0")->bytes()));
}

TEST_P(BackupScenarios, ClustersOfTheTargetAreCopiedWhole) {
  operate().CreateDisk("disk0");
  operate().CreateDisk("target0", kDiskBytes, "cluster_size=1M");
  operate().Do(BitmapAdd("disk0", "b0", 4096));
  guest().Write(1, {kMiB * 2 + 8192, 512});
  operate().Do(Backup({.sync = kIncremental, .bitmap = "b0"}));
  operate().Finish("job0");
  EXPECT_EQ(operate().Job("job0").total_bytes(), static_cast<int64_t>(kMiB));
  DetachAndCheck({"disk0", "target0"});
  EXPECT_THAT(image("target0"), AllocatesExactly(Ranges{{2 * kMiB, kMiB}}));
}

TEST_P(BackupScenarios, TwoBackupsOfOneSourceRunAtTheSameTime) {
  CreateFullDisk();
  const std::string first = guest().model().bytes();
  operate().CreateDisk("target0");
  operate().CreateDisk("target1");
  operate().Do(Backup({.job = "job0", .speed = kHold}));
  guest().Write(2, Clusters(0, 40));
  const std::string second = guest().model().bytes();
  operate().Do(Backup({.job = "job1", .target = "target1", .speed = kHold}));
  guest().Write(3, Clusters(20, 60));
  operate().ReleaseAndFinish("job1");
  operate().ReleaseAndFinish("job0");
  DetachAndCheck({"disk0", "target0", "target1"});
  EXPECT_THAT(image("target0").Contents(), HoldsSameAs(first));
  EXPECT_THAT(image("target1").Contents(), HoldsSameAs(second));
}

TEST_P(BackupScenarios, TheFilterHasItsNameWhileTheJobRuns) {
  CreateFullDisk();
  operate().CreateDisk("target0");
  operate().Do(Backup({.speed = kHold, .filter_node_name = "above"}));
  EXPECT_EQ(operate().Node("above").drv(), "copy-before-write");
  ExpectRefused(Del("above"), v1::ERROR_REASON_NODE_BUSY, {"above"});
  operate().ReleaseAndFinish("job0");
  EXPECT_FALSE(operate().HasNode("above"));
  EXPECT_THAT(guest().ReadAll(), HoldsSameAs(guest().model().bytes()));
}

TEST_P(BackupScenarios, AnUnnamedFilterIsListedUnderAGeneratedName) {
  CreateFullDisk();
  operate().CreateDisk("target0");
  operate().Do(Backup({.speed = kHold}));
  std::vector<std::string> filters;
  for (const auto& node : operate().Nodes()) {
    if (node.drv() == "copy-before-write") filters.push_back(node.node_name());
  }
  EXPECT_THAT(filters, ElementsAre(::testing::StartsWith("#block")));
  operate().CancelAndAwait("job0");
}

TEST_P(BackupScenarios, BackupToAFileCreatesAndClosesItsTarget) {
  CreateFullDisk();
  const std::string path = folder().File("drive.qcow2");
  operate().Do(BackupToFile({.target = path}, "qcow2"));
  operate().Finish("job0");
  EXPECT_EQ(operate().StoryOf("job0"), Success());
  EXPECT_THAT(Image(path), IsSound());
  DetachAndCheck({"disk0"});
  EXPECT_EQ(Image(path).DifferenceFrom(image("disk0")), "");
}

TEST_P(BackupScenarios, BackupToAFileThatExistsUsesItAsItIs) {
  CreateFullDisk();
  const std::string path = folder().File("drive.qcow2");
  Image::Create(path, kDiskBytes, "qcow2", "cluster_size=128k");
  operate().Do(BackupToFile({.target = path}, "qcow2", v1::NEW_IMAGE_MODE_EXISTING));
  operate().Finish("job0");
  EXPECT_EQ(Image(path).Info("/cluster-size"), "131072");
  EXPECT_THAT(Image(path), IsSound());
}

TEST_P(BackupScenarios, TopBackupToAFileRecordsTheBackingFile) {
  Image::Create(operate().FileOf("base"), kDiskBytes);
  Image::Create(operate().FileOf("disk0"), kDiskBytes);
  image("disk0").Over(image("base"));
  operate().Attach("disk0");
  guest().Write(2, Clusters(4, 8));
  const std::string path = folder().File("drive.qcow2");
  operate().Do(BackupToFile({.target = path, .sync = kTop}, "qcow2"));
  operate().Finish("job0");
  EXPECT_EQ(Image(path).Info("/backing-filename"), operate().FileOf("base"));
  DetachAndCheck({"disk0"});
  EXPECT_EQ(Image(path).DifferenceFrom(image("disk0")), "");
}

TEST_P(BackupScenarios, ABackupOfNothingEndsAtOnce) {
  operate().CreateDisk("disk0");
  operate().CreateDisk("target0");
  operate().Do(BitmapAdd("disk0", "b0"));
  operate().Do(Backup({.sync = kIncremental, .bitmap = "b0"}));
  operate().Finish("job0");
  EXPECT_EQ(operate().Job("job0").total_bytes(), 0);
  DetachAndCheck({"target0"});
  EXPECT_THAT(image("target0"), AllocatesExactly(Ranges{}));
}

TEST_P(BackupScenarios, GuestRequestsOfEveryShapeKeepTheOldBytes) {
  CreateFullDisk();
  const std::string before = guest().model().bytes();
  operate().CreateDisk("target0");
  operate().Do(Backup({.speed = kHold}));
  guest().Write(2, {1, 1});
  guest().Write(3, {kClusterBytes - 1, 2});
  guest().Write(4, {5 * kClusterBytes + 100, 3 * kClusterBytes});
  guest().Zero({20 * kClusterBytes + 512, 512});
  guest().Zero(Clusters(30, 2));
  guest().Trim(Clusters(40, 2));
  guest().Write(5, {kDiskBytes - 1, 1});
  operate().ReleaseAndFinish("job0");
  EXPECT_THAT(guest().ReadAll(), HoldsSameAs(guest().model().bytes()));
  DetachAndCheck({"disk0", "target0"});
  EXPECT_THAT(image("target0").Contents(), HoldsSameAs(before));
}

ON_EVERY_BACKEND(BackupScenarios);

}  // namespace
}  // namespace tidemark::test
