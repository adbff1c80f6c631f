// The examples of QEMU's documents on dirty bitmaps and live block operations, as somebody would
// follow them.
#include "tests/conformance/conformance.h"

namespace tidemark::test {
namespace {

class DocumentScenarios : public Conformance {
 protected:
  void SetUp() override {
    Conformance::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    operate().CreateDisk("drive0");
    guest("drive0").Write(1, Clusters(0, 40));
  }

  // An empty image that records `backing` ("" for none), opened without it, as a target.
  void CreateTarget(const std::string& node, const std::string& backing) {
    Image::Create(operate().FileOf(node), kDiskBytes);
    if (!backing.empty()) image(node).Over(image(backing));
    v1::BlockdevOptions options = Qcow2Options(node, operate().FileOf(node));
    if (!backing.empty()) options.mutable_qcow2()->mutable_backing()->mutable_none();
    operate().Do(Add(options));
  }
  BackupOptions BackupOf(const std::string& drive, const std::string& target,
                         v1::MirrorSyncMode sync) {
    return {.job = "job-" + target, .source = drive, .target = target, .sync = sync};
  }
  BackupOptions IncrementalOf(const std::string& drive, const std::string& target) {
    BackupOptions options = BackupOf(drive, target, kIncremental);
    options.bitmap = "bitmap0";
    return options;
  }
  void FinishAndClose(const std::string& target) {
    operate().Finish("job-" + target);
    operate().Detach(target);
    EXPECT_THAT(image(target), IsSound());
  }
  std::string Held(const std::string& drive = "drive0") { return ModelOf(drive)->bytes(); }
  // A full backup of drive0 and a bitmap from the same instant.
  void TakeAnchor() {
    CreateTarget("full0", "");
    operate().Do(Transact(BitmapAdd("drive0", "bitmap0", absl::nullopt, /*persistent=*/true),
                          Backup(BackupOf("drive0", "full0", kFull))));
    FinishAndClose("full0");
  }
};

TEST_P(DocumentScenarios, CreatingADirtyBitmapAndDeletingIt) {
  operate().Do(BitmapAdd("drive0", "bitmap0"));
  operate().Do(BitmapAdd("drive0", "bitmap1", 131072));
  EXPECT_EQ(operate().Bitmap("drive0", "bitmap1").granularity(), 131072u);
  operate().Do(BitmapAdd("drive0", "bitmap2", absl::nullopt, true, true));
  EXPECT_FALSE(operate().Bitmap("drive0", "bitmap2").recording());
  operate().Do(BitmapRemove("drive0", "bitmap0"));
  EXPECT_EQ(operate().Bitmaps("drive0").size(), 2u);
}

TEST_P(DocumentScenarios, NewAnchorNewBitmapAndFullBackupTogether) {
  TakeAnchor();
  EXPECT_THAT(image("full0").Contents(), HoldsSameAs(Held()));
  EXPECT_EQ(operate().Bitmap("drive0", "bitmap0").count(), 0);
}

TEST_P(DocumentScenarios, ResetAnchorClearedBitmapAndFullBackupTogether) {
  operate().Do(BitmapAdd("drive0", "bitmap0"));
  guest("drive0").Write(2, Clusters(50, 10));
  CreateTarget("full1", "");
  operate().Do(
      Transact(BitmapClear("drive0", "bitmap0"), Backup(BackupOf("drive0", "full1", kFull))));
  FinishAndClose("full1");
  EXPECT_THAT(image("full1").Contents(), HoldsSameAs(Held()));
  EXPECT_EQ(operate().Bitmap("drive0", "bitmap0").count(), 0);
}

TEST_P(DocumentScenarios, FirstAndSecondIncremental) {
  TakeAnchor();
  const std::string at_full = Held();
  guest("drive0").Write(2, Clusters(10, 3));
  CreateTarget("inc0", "full0");
  operate().Do(Backup(IncrementalOf("drive0", "inc0")));
  FinishAndClose("inc0");
  const std::string at_first = Held();
  EXPECT_THAT(image("inc0"), AllocatesExactly(Ranges{Clusters(10, 3)}));

  guest("drive0").Write(3, Clusters(12, 4));
  guest("drive0").Zero(Clusters(60, 1));
  CreateTarget("inc1", "inc0");
  operate().Do(Backup(IncrementalOf("drive0", "inc1")));
  FinishAndClose("inc1");
  EXPECT_THAT(image("inc1"), AllocatesExactly(Ranges{Clusters(12, 4), Clusters(60, 1)}));

  EXPECT_THAT(image("full0").Contents(), HoldsSameAs(at_full));
  EXPECT_THAT(image("inc0").Contents(), HoldsSameAs(at_first));
  EXPECT_THAT(image("inc1").Contents(), HoldsSameAs(Held()));
}

TEST_P(DocumentScenarios, IncrementalWithoutBackingFile) {
  TakeAnchor();
  guest("drive0").Write(2, Clusters(10, 3));
  CreateTarget("delta", "");
  operate().Do(Backup(IncrementalOf("drive0", "delta")));
  FinishAndClose("delta");
  EXPECT_THAT(image("delta"), AllocatesExactly(Ranges{Clusters(10, 3)}));
  EXPECT_EQ(image("delta").Info("/backing-filename"), "");
  EXPECT_THAT(image("delta").Over(image("full0")).Contents(), HoldsSameAs(Held()));
}

TEST_P(DocumentScenarios, ATargetOpenedWithItsBackingImageHoldsTheSame) {
  TakeAnchor();
  guest("drive0").Write(2, Clusters(10, 3));
  Image::Create(operate().FileOf("inc0"), kDiskBytes);
  image("inc0").Over(image("full0"));
  operate().Attach("inc0");
  operate().Do(Backup(IncrementalOf("drive0", "inc0")));
  FinishAndClose("inc0");
  EXPECT_THAT(image("inc0"), AllocatesExactly(Ranges{Clusters(10, 3)}));
  EXPECT_THAT(image("inc0").Contents(), HoldsSameAs(Held()));
}

TEST_P(DocumentScenarios, MultiDriveTransaction) {
  operate().CreateDisk("drive1");
  guest("drive1").Write(4, Clusters(0, 5));
  CreateTarget("d0-full", "");
  CreateTarget("d1-full", "");
  operate().Do(Transact(BitmapAdd("drive0", "bitmap0"), BitmapAdd("drive1", "bitmap0"),
                        Backup(BackupOf("drive0", "d0-full", kFull)),
                        Backup(BackupOf("drive1", "d1-full", kFull))));
  FinishAndClose("d0-full");
  FinishAndClose("d1-full");
  guest("drive0").Write(5, Clusters(7, 1));
  guest("drive1").Write(5, Clusters(9, 2));
  CreateTarget("d0-inc", "d0-full");
  CreateTarget("d1-inc", "d1-full");
  operate().Do(Transact(Backup(IncrementalOf("drive0", "d0-inc")),
                        Backup(IncrementalOf("drive1", "d1-inc"))));
  FinishAndClose("d0-inc");
  FinishAndClose("d1-inc");
  EXPECT_THAT(image("d0-inc").Contents(), HoldsSameAs(Held("drive0")));
  EXPECT_THAT(image("d1-inc").Contents(), HoldsSameAs(Held("drive1")));
}

TEST_P(DocumentScenarios, IndividualFailureDeleteTheTargetAndTryAgain) {
  TakeAnchor();
  guest("drive0").Write(2, Clusters(0, 60));
  Image::Create(operate().FileOf("inc0"), kDiskBytes);
  operate().Do(Add(CrampedOptions("inc0", operate().FileOf("inc0"), kMiB)));
  operate().Do(Backup(IncrementalOf("drive0", "inc0")));
  operate().AwaitEnd("job-inc0");
  EXPECT_THAT(operate().StoryOf("job-inc0"), ::testing::Contains("COMPLETED(error)"));
  EXPECT_EQ(operate().Bitmap("drive0", "bitmap0").count(),
            static_cast<int64_t>(60 * kClusterBytes));
  // The full image may complain that not all of it was saved; gone it is in any case.
  operate().Try(Del("inc0"));
  EXPECT_FALSE(operate().HasNode("inc0"));

  CreateTarget("inc0", "full0");
  BackupOptions again = IncrementalOf("drive0", "inc0");
  again.job = "again";
  operate().Do(Backup(again));
  operate().Finish("again");
  operate().Detach("inc0");
  EXPECT_THAT(image("inc0").Contents(), HoldsSameAs(Held()));
}

TEST_P(DocumentScenarios, PartialTransactionalFailureKeepsTheBitmapOfTheFailedDriveOnly) {
  operate().CreateDisk("drive1");
  for (const char* drive : {"drive0", "drive1"}) {
    operate().Do(BitmapAdd(drive, "bitmap0"));
    guest(drive).Write(6, Clusters(0, 60));
  }
  CreateTarget("d0", "");
  Image::Create(operate().FileOf("d1"), kDiskBytes);
  operate().Do(Add(CrampedOptions("d1", operate().FileOf("d1"), kMiB)));
  operate().Do(
      Transact(Backup(IncrementalOf("drive0", "d0")), Backup(IncrementalOf("drive1", "d1"))));
  operate().Finish("job-d0");
  operate().AwaitEnd("job-d1");
  EXPECT_EQ(operate().Job("job-d1").outcome(), v1::JOB_OUTCOME_FAILED);
  EXPECT_EQ(operate().Bitmap("drive0", "bitmap0").count(), 0);

  // As the document advises: the failed drive alone is done again.
  CreateTarget("d2", "");
  operate().Do(Backup(IncrementalOf("drive1", "d2")));
  FinishAndClose("d2");
  EXPECT_THAT(image("d2").Contents().substr(0, 60 * kClusterBytes),
              HoldsSameAs(Held("drive1").substr(0, 60 * kClusterBytes)));
}

TEST_P(DocumentScenarios, GroupedCompletionMode) {
  operate().CreateDisk("drive1");
  for (const char* drive : {"drive0", "drive1"}) {
    operate().Do(BitmapAdd(drive, "bitmap0"));
    guest(drive).Write(6, Clusters(0, 60));
  }
  CreateTarget("d0", "");
  Image::Create(operate().FileOf("d1"), kDiskBytes);
  operate().Do(Add(CrampedOptions("d1", operate().FileOf("d1"), kMiB)));
  operate().Do(TransactGrouped(Backup(IncrementalOf("drive0", "d0")),
                               Backup(IncrementalOf("drive1", "d1"))));
  operate().AwaitEnd("job-d0");
  operate().AwaitEnd("job-d1");
  EXPECT_EQ(operate().Job("job-d0").outcome(), v1::JOB_OUTCOME_CANCELLED);
  EXPECT_EQ(operate().Job("job-d1").outcome(), v1::JOB_OUTCOME_FAILED);
  for (const char* drive : {"drive0", "drive1"}) {
    EXPECT_EQ(operate().Bitmap(drive, "bitmap0").count(), static_cast<int64_t>(60 * kClusterBytes));
  }
}

TEST_P(DocumentScenarios, ADifferentialBackupMergesIntoAScratchBitmap) {
  // Increments keep their bitmaps, frozen; a differential one merges them and copies that.
  TakeAnchor();
  guest("drive0").Write(2, Clusters(10, 1));
  operate().Do(Transact(BitmapAdd("drive0", "later"), BitmapDisable("drive0", "bitmap0")));
  guest("drive0").Write(3, Clusters(20, 1));
  operate().Do(Transact(BitmapAdd("drive0", "scratch", absl::nullopt, false, true),
                        BitmapMerge("drive0", "scratch", {"bitmap0", "later"})));
  CreateTarget("diff0", "full0");
  BackupOptions differential = BackupOf("drive0", "diff0", kBitmap);
  differential.bitmap = "scratch";
  differential.mode = kOnSuccess;
  operate().Do(Backup(differential));
  FinishAndClose("diff0");
  EXPECT_THAT(image("diff0"), AllocatesExactly(Ranges{Clusters(10, 1), Clusters(20, 1)}));
  EXPECT_THAT(image("diff0").Contents(), HoldsSameAs(Held()));
}

ON_EVERY_BACKEND(DocumentScenarios);

}  // namespace
}  // namespace tidemark::test
