// Transactions: several actions at one instant, all or none; jobs that share their fate.
#include "tests/conformance/conformance.h"

namespace tidemark::test {
namespace {

class TransactionScenarios : public Conformance {
 protected:
  void SetUp() override {
    Conformance::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    CreateFullDisk("disk0");
    CreateFullDisk("disk1");
    operate().CreateDisk("target0");
  }

  // A target that is too small for what would be copied to it.
  void CreateCrampedTarget(const std::string& node) {
    Image::Create(operate().FileOf(node), kDiskBytes);
    operate().Do(Add(CrampedOptions(node, operate().FileOf(node), 3 * kMiB)));
  }
  // Bitmaps that mark `clusters` of each disk.
  void AddMarkedBitmaps(const std::string& name, Range clusters) {
    for (const char* disk : {"disk0", "disk1"}) {
      operate().Do(BitmapAdd(disk, name));
      guest(disk).Write(5, clusters);
    }
  }
};

constexpr auto kAborted = v1::ERROR_REASON_TRANSACTION_ABORTED;

TEST_P(TransactionScenarios, NoActionsDoNothing) { operate().Do(v1::TransactionRequest()); }

TEST_P(TransactionScenarios, EachActionSeesThoseBeforeIt) {
  operate().Do(BitmapAdd("disk0", "source"));
  guest().Write(2, Clusters(3, 2));
  operate().Do(Transact(BitmapAdd("disk0", "b0"), BitmapDisable("disk0", "b0"),
                        BitmapMerge("disk0", "b0", {"source"}), BitmapClear("disk0", "source"),
                        BitmapAdd("disk0", "b1", absl::nullopt, false, true),
                        BitmapEnable("disk0", "b1")));
  EXPECT_FALSE(operate().Bitmap("disk0", "b0").recording());
  EXPECT_TRUE(operate().Bitmap("disk0", "b1").recording());
  EXPECT_EQ(operate().Bitmap("disk0", "b0").count(), static_cast<int64_t>(2 * kClusterBytes));
  EXPECT_EQ(operate().Bitmap("disk0", "source").count(), 0);
}

TEST_P(TransactionScenarios, RemovalsTakeEffectLast) {
  operate().Do(BitmapAdd("disk0", "b0"));
  ExpectRefused(Transact(BitmapRemove("disk0", "b0"), BitmapAdd("disk0", "b0")),
                v1::ERROR_REASON_BITMAP_EXISTS, {"b0"});
  operate().Do(Transact(BitmapRemove("disk0", "b0")));
  EXPECT_EQ(operate().Bitmap("disk0", "b0").name(), "");
}

TEST_P(TransactionScenarios, AbortUndoesEveryKindOfBitmapAction) {
  operate().Do(BitmapAdd("disk0", "marked"));
  operate().Do(BitmapAdd("disk0", "disabled", absl::nullopt, false, true));
  guest().Write(2, Clusters(3, 2));
  const std::string sha = operate().Sha256("disk0", "marked");
  ExpectRefused(
      Transact(BitmapAdd("disk0", "new"), BitmapMerge("disk0", "disabled", {"marked"}),
               BitmapEnable("disk0", "disabled"), BitmapClear("disk0", "marked"),
               BitmapDisable("disk0", "marked"), BitmapRemove("disk0", "marked"), v1::Abort()),
      kAborted, {});
  EXPECT_EQ(operate().Sha256("disk0", "marked"), sha);
  EXPECT_EQ(operate().Bitmap("disk0", "disabled").count(), 0);
}

TEST_P(TransactionScenarios, WritesWhileItIsUndoneAreMarked) {
  operate().Do(BitmapAdd("disk0", "b0"));
  guest().Write(2, Clusters(3, 2));
  for (int i = 0; i < 5; ++i) {
    EXPECT_THAT(operate().Try(Transact(BitmapClear("disk0", "b0"), BitmapDisable("disk0", "b0"),
                                       v1::Abort())),
                Refused(kAborted, Mentions{}));
  }
  guest().Write(2, Clusters(9, 1));
  EXPECT_EQ(operate().Marks("disk0", "b0"), Merged({Clusters(3, 2), Clusters(9, 1)}));
}

TEST_P(TransactionScenarios, TheFirstFailureUndoesAll) {
  const v1::TransactionRequest request =
      Transact(BitmapAdd("disk0", "b0"), BitmapAdd("disk1", "b0"), BitmapClear("disk1", "b9"));
  ExpectRefused(request, v1::ERROR_REASON_BITMAP_NOT_FOUND, {"b9"});
}

TEST_P(TransactionScenarios, ARefusalNamesTheActionAtFault) {
  auto reply = operate().Try(Transact(BitmapAdd("disk0", "b0"), BitmapClear("disk1", "b9")));
  EXPECT_EQ(reply.refusal.metadata["field"], "actions[1]");
}

TEST_P(TransactionScenarios, AJobOfAnUndoneTransactionNeverRuns) {
  ExpectRefused(Transact(Backup({}), v1::Abort()), kAborted, {});
  EXPECT_TRUE(events().WaitForStatus("job0", v1::JOB_STATUS_NULL));
  EXPECT_EQ(operate().StoryOf("job0"), (Story{"created", "aborting", "concluded", "null"}));
  // Source and target are free again.
  operate().Do(Backup({.job = "job1"}));
  operate().Finish("job1");
}

TEST_P(TransactionScenarios, AFileThatDriveBackupCreatedRemains) {
  const std::string path = folder().File("drive.qcow2");
  EXPECT_THAT(operate().Try(Transact(BackupToFile({.target = path}, "qcow2"), v1::Abort())),
              Refused(kAborted, Mentions{}));
  EXPECT_THAT(Image(path), IsSound());
  EXPECT_THAT(operate().Jobs(), IsEmpty());
}

TEST_P(TransactionScenarios, OneTargetServesOneBackup) {
  ExpectRefused(Transact(Backup({}), Backup({.job = "job1", .source = "disk1"})),
                v1::ERROR_REASON_NODE_BUSY, {"target0"});
}

TEST_P(TransactionScenarios, AnActionNamesNoEngine) {
  v1::TransactionRequest request = Transact(BitmapAdd("disk0", "b0"));
  request.mutable_actions(0)->mutable_block_dirty_bitmap_add()->set_instance("vm");
  ExpectRefused(request, v1::ERROR_REASON_INVALID_FIELD,
                {"actions[0].block_dirty_bitmap_add.instance"});
}

TEST_P(TransactionScenarios, AnEmptyActionIsRefused) {
  v1::TransactionRequest request;
  request.add_actions();
  ExpectRefused(request, v1::ERROR_REASON_INVALID_FIELD, {"actions[0]"});
}

TEST_P(TransactionScenarios, TheValuesOfActionsAreChecked) {
  ExpectRefused(Transact(BitmapAdd("disk0", "b0"), BitmapAdd("disk0", "b1", 1000)),
                v1::ERROR_REASON_INVALID_FIELD,
                {"actions[1].block_dirty_bitmap_add.granularity", "1000"});
  ExpectRefused(Transact(BitmapMerge("disk0", "b0", {})), v1::ERROR_REASON_INVALID_FIELD,
                {"actions[0].block_dirty_bitmap_merge.bitmaps"});
}

TEST_P(TransactionScenarios, OnlyBackupsCanBeGrouped) {
  operate().Do(BitmapAdd("disk0", "b0"));
  constexpr auto kCombination = v1::ERROR_REASON_INVALID_COMBINATION;
  ExpectRefused(TransactGrouped(Backup({}), BitmapAdd("disk0", "b1")), kCombination, {"grouped"});
  ExpectRefused(TransactGrouped(Backup({}), BitmapClear("disk0", "b0")), kCombination, {});
  ExpectRefused(TransactGrouped(Backup({}), BitmapEnable("disk0", "b0")), kCombination, {});
  ExpectRefused(TransactGrouped(Backup({}), BitmapDisable("disk0", "b0")), kCombination, {});
  ExpectRefused(TransactGrouped(Backup({}), BitmapRemove("disk0", "b0")), kCombination, {});
  ExpectRefused(TransactGrouped(Backup({}), BitmapMerge("disk0", "b0", {"b0"})), kCombination, {});
  ExpectRefused(TransactGrouped(Backup({}), v1::Abort()), kCombination, {});
}

TEST_P(TransactionScenarios, BackupsOfATransactionMeanOneInstant) {
  operate().CreateDisk("target1");
  const std::string before0 = ModelOf("disk0")->bytes();
  const std::string before1 = ModelOf("disk1")->bytes();
  operate().Do(
      Transact(BitmapAdd("disk0", "b0"), Backup({.speed = kHold}), BitmapAdd("disk1", "b0"),
               Backup({.job = "job1", .source = "disk1", .target = "target1", .speed = kHold})));
  guest("disk0").Write(9, Clusters(10, 3));
  guest("disk1").Write(9, Clusters(20, 3));
  operate().ReleaseAndFinish("job0");
  operate().ReleaseAndFinish("job1");
  EXPECT_EQ(operate().Marks("disk0", "b0"), Ranges{Clusters(10, 3)});
  EXPECT_EQ(operate().Marks("disk1", "b0"), Ranges{Clusters(20, 3)});
  DetachAndCheck({"disk0", "disk1", "target0", "target1"});
  EXPECT_THAT(image("target0").Contents(), HoldsSameAs(before0));
  EXPECT_THAT(image("target1").Contents(), HoldsSameAs(before1));
}

TEST_P(TransactionScenarios, IndividualJobsFailAlone) {
  AddMarkedBitmaps("b0", Clusters(0, 60));
  CreateCrampedTarget("cramped");
  operate().Do(
      Transact(Backup({.sync = kIncremental, .bitmap = "b0"}), Backup({.job = "job1",
                                                                       .source = "disk1",
                                                                       .target = "cramped",
                                                                       .sync = kIncremental,
                                                                       .bitmap = "b0"})));
  operate().Finish("job0");
  operate().AwaitEnd("job1");
  EXPECT_EQ(operate().Job("job1").outcome(), v1::JOB_OUTCOME_FAILED);
  EXPECT_EQ(operate().Bitmap("disk0", "b0").count(), 0);
  EXPECT_EQ(operate().Bitmap("disk1", "b0").count(), static_cast<int64_t>(60 * kClusterBytes));
}

TEST_P(TransactionScenarios, GroupedJobsFailTogether) {
  AddMarkedBitmaps("b0", Clusters(0, 60));
  CreateCrampedTarget("cramped");
  operate().Do(
      TransactGrouped(Backup({.sync = kIncremental, .bitmap = "b0"}), Backup({.job = "job1",
                                                                              .source = "disk1",
                                                                              .target = "cramped",
                                                                              .sync = kIncremental,
                                                                              .bitmap = "b0",
                                                                              .speed = kHold})));
  // One has done all its work and waits when the other fails.
  operate().AwaitStatus("job0", v1::JOB_STATUS_WAITING);
  guest("disk0").Write(6, Clusters(100, 1));
  operate().Do(SetSpeed("job1", 0));
  operate().AwaitEnd("job1");
  operate().AwaitEnd("job0");
  EXPECT_EQ(operate().StoryOf("job0"),
            (Story{"created", "running", "waiting", "aborting", "CANCELLED", "concluded", "null"}));
  Story story = operate().StoryOf("job1");
  std::erase(story, "ERROR(write, report)");
  EXPECT_EQ(story, Failure());
  EXPECT_EQ(operate().Job("job0").outcome(), v1::JOB_OUTCOME_CANCELLED);
  EXPECT_EQ(operate().Job("job1").outcome(), v1::JOB_OUTCOME_FAILED);
  EXPECT_EQ(operate().Marks("disk0", "b0"), Merged({Clusters(0, 60), Clusters(100, 1)}));
  EXPECT_EQ(operate().Bitmap("disk1", "b0").count(), static_cast<int64_t>(60 * kClusterBytes));
}

TEST_P(TransactionScenarios, GroupedJobsSucceedTogether) {
  AddMarkedBitmaps("b0", Clusters(0, 60));
  operate().CreateDisk("target1");
  operate().Do(
      TransactGrouped(Backup({.sync = kIncremental, .bitmap = "b0"}), Backup({.job = "job1",
                                                                              .source = "disk1",
                                                                              .target = "target1",
                                                                              .sync = kIncremental,
                                                                              .bitmap = "b0",
                                                                              .speed = kHold})));
  operate().AwaitStatus("job0", v1::JOB_STATUS_WAITING);
  EXPECT_EQ(operate().QueriedJob("job0").status(), v1::JOB_STATUS_WAITING);
  EXPECT_EQ(operate().QueriedJob("job1").status(), v1::JOB_STATUS_RUNNING);
  // Verbs of a waiting job: it can be cancelled, and nothing else.
  constexpr auto kState = v1::ERROR_REASON_JOB_STATE;
  ExpectRefused(OfJob<v1::JobPauseRequest>("job0"), kState, {"job0", "waiting"});
  ExpectRefused(OfJob<v1::JobFinalizeRequest>("job0"), kState, {"job0", "waiting"});
  ExpectRefused(OfJob<v1::JobDismissRequest>("job0"), kState, {"job0", "waiting"});
  ExpectRefused(SetSpeed("job0", 1), kState, {"job0", "waiting"});
  operate().ReleaseAndFinish("job1");
  operate().Finish("job0");
  EXPECT_EQ(operate().StoryOf("job0"), Success());
  EXPECT_EQ(operate().StoryOf("job1"), Success());
  // All are pending before any is completed.
  const Story both = events().StoryOf(std::vector<std::string>{"job0", "job1"});
  const auto place = [&both](const std::string& word) {
    return std::find(both.begin(), both.end(), word) - both.begin();
  };
  EXPECT_LT(place("job1: pending"), place("job0: COMPLETED"));
  EXPECT_LT(place("job0: pending"), place("job1: COMPLETED"));
  EXPECT_EQ(operate().Bitmap("disk0", "b0").count(), 0);
  EXPECT_EQ(operate().Bitmap("disk1", "b0").count(), 0);
}

TEST_P(TransactionScenarios, CancellingOneOfAGroupCancelsAll) {
  AddMarkedBitmaps("b0", Clusters(0, 60));
  operate().CreateDisk("target1");
  operate().Do(
      TransactGrouped(Backup({.sync = kIncremental, .bitmap = "b0"}), Backup({.job = "job1",
                                                                              .source = "disk1",
                                                                              .target = "target1",
                                                                              .sync = kIncremental,
                                                                              .bitmap = "b0",
                                                                              .speed = kHold})));
  operate().AwaitStatus("job0", v1::JOB_STATUS_WAITING);
  operate().CancelAndAwait("job0");
  operate().AwaitEnd("job1");
  EXPECT_EQ(operate().StoryOf("job0"),
            (Story{"created", "running", "waiting", "aborting", "CANCELLED", "concluded", "null"}));
  EXPECT_EQ(operate().StoryOf("job1"), Cancelled());
  EXPECT_EQ(operate().Bitmap("disk0", "b0").count(), static_cast<int64_t>(60 * kClusterBytes));
  EXPECT_EQ(operate().Bitmap("disk1", "b0").count(), static_cast<int64_t>(60 * kClusterBytes));
}

TEST_P(TransactionScenarios, OneManualMemberMakesTheWholeGroupWait) {
  operate().CreateDisk("target1");
  operate().Do(TransactGrouped(Backup({.auto_finalize = false}),
                               Backup({.job = "job1", .source = "disk1", .target = "target1"})));
  operate().AwaitStatus("job0", v1::JOB_STATUS_PENDING);
  operate().AwaitStatus("job1", v1::JOB_STATUS_PENDING);
  EXPECT_TRUE(events().WaitForKind("job0", v1::EVENT_KIND_BLOCK_JOB_PENDING));
  EXPECT_EQ(operate().QueriedJob("job1").status(), v1::JOB_STATUS_PENDING);
  // Finalizing any member finalizes all.
  operate().Do(OfJob<v1::JobFinalizeRequest>("job1"));
  operate().Finish("job0");
  operate().Finish("job1");
  EXPECT_THAT(operate().StoryOf("job0"), ::testing::Contains("PENDING"));
  EXPECT_EQ(operate().StoryOf("job1"), Success());
  ExpectRefused(OfJob<v1::JobFinalizeRequest>("job0"), v1::ERROR_REASON_JOB_NOT_FOUND, {"job0"});
}

ON_EVERY_BACKEND(TransactionScenarios);

}  // namespace
}  // namespace tidemark::test
