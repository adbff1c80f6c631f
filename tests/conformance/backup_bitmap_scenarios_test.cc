// Backups with bitmaps: what they copy, and what becomes of the bitmap, over every sync mode,
// bitmap mode and way to end.
//
// S: marked at the start. W: written while the job ran. U: not copied. C: copied.
#include <algorithm>

#include "tests/conformance/conformance.h"

namespace tidemark::test {
namespace {

class BackupBitmapScenarios : public Conformance {
 protected:
  // A full disk with a bitmap "b0" that marks `marked`.
  void CreateMarkedDisk(const Ranges& marked) {
    CreateFullDisk();
    operate().Do(BitmapAdd("disk0", "b0"));
    for (Range range : marked) guest().Write(7, range);
  }
};

enum class End { kSuccess, kFailure, kCancel };

struct Row {
  std::string name;
  v1::MirrorSyncMode sync;
  v1::BitmapSyncMode mode;
};

const std::vector<Row>& Rows() {
  static const auto* rows = new std::vector<Row>{
      {"Incremental", kIncremental, v1::BITMAP_SYNC_MODE_UNSPECIFIED},
      {"IncrementalOnSuccess", kIncremental, kOnSuccess},
      {"BitmapOnSuccess", kBitmap, kOnSuccess},
      {"BitmapAlways", kBitmap, kAlways},
      {"BitmapNever", kBitmap, kNever},
      {"FullOnSuccess", kFull, kOnSuccess},
      {"FullAlways", kFull, kAlways},
      {"TopOnSuccess", kTop, kOnSuccess},
      {"TopAlways", kTop, kAlways},
  };
  return *rows;
}

// Walks the table.
class BitmapTable : public BackupBitmapScenarios {
 protected:
  void Check(const Row& row, End end);
};

// Every range of `inner` lies in `outer`.
bool Within(const Ranges& inner, const Ranges& outer) {
  Ranges both = outer;
  both.insert(both.end(), inner.begin(), inner.end());
  return Merged(both) == Merged(outer);
}

Ranges Union(Ranges left, const Ranges& right) {
  left.insert(left.end(), right.begin(), right.end());
  return Merged(left);
}

void BitmapTable::Check(const Row& row, End end) {
  SCOPED_TRACE(row.name);
  // Enough that a held job has work left, and that a cramped target is too small for it.
  const Ranges marked = {Clusters(8, 56), Clusters(80, 8)};
  const Ranges written = {Clusters(20, 4), Clusters(70, 2), Clusters(120, 1)};
  const Ranges all = {{0, kDiskBytes}};
  CreateMarkedDisk(marked);
  Image::Create(operate().FileOf("target0"), kDiskBytes);
  if (end == End::kFailure) {
    operate().Do(Add(CrampedOptions("target0", operate().FileOf("target0"), 2 * kMiB)));
  } else {
    operate().Attach("target0");
  }
  const std::string before = guest().model().bytes();

  operate().Do(Backup({.sync = row.sync, .bitmap = "b0", .mode = row.mode, .speed = kHold}));
  v1::BlockDirtyInfo info = operate().Bitmap("disk0", "b0");
  EXPECT_TRUE(info.busy());
  EXPECT_TRUE(info.recording());
  EXPECT_EQ(info.count(), static_cast<int64_t>(BytesIn(marked)));
  for (Range range : written) guest().Write(8, range);
  EXPECT_EQ(operate().Bitmap("disk0", "b0").count(), static_cast<int64_t>(BytesIn(marked)))
      << "what the guest writes is marked elsewhere while the bitmap is busy";

  if (end == End::kCancel) {
    operate().CancelAndAwait("job0");
    EXPECT_EQ(operate().StoryOf("job0"), Cancelled());
  } else if (end == End::kFailure) {
    operate().Do(SetSpeed("job0", 0));
    operate().AwaitEnd("job0");
    EXPECT_THAT(operate().StoryOf("job0"), ::testing::Contains("COMPLETED(error)"));
  } else {
    operate().ReleaseAndFinish("job0");
  }

  info = operate().Bitmap("disk0", "b0");
  EXPECT_FALSE(info.busy());
  EXPECT_TRUE(info.recording());
  EXPECT_EQ(operate().Bitmaps("disk0").size(), 1u) << "no nameless bitmap is left behind";
  const Ranges marks = operate().Marks("disk0", "b0");
  const Ranges kept = Union(marked, written);
  const bool whole_disk = row.sync == kFull || row.sync == kTop;
  if (row.mode == kNever) {
    EXPECT_EQ(marks, kept);
  } else if (end == End::kSuccess) {
    EXPECT_EQ(marks, Merged(written));
  } else if (row.mode == kAlways) {
    // Exactly what was not copied, and what was written since: so the copied rest must be right.
    EXPECT_TRUE(Within(written, marks)) << ToString(marks);
    EXPECT_TRUE(Within(marks, whole_disk ? all : kept)) << ToString(marks);
    Unplug();
    operate().Detach("target0");
    const std::string copied = image("target0").Contents();
    for (uint64_t at = 0; at < kDiskBytes; at += kClusterBytes) {
      const Range cluster{at, kClusterBytes};
      const bool was_to_copy = whole_disk || Within({cluster}, marked);
      if (!was_to_copy || Within({cluster}, marks)) continue;
      EXPECT_THAT(copied.substr(at, kClusterBytes), HoldsSameAs(before.substr(at, kClusterBytes)))
          << "the cluster at " << at << " is not marked, so it must have been copied";
    }
  } else {
    EXPECT_EQ(marks, kept);
  }

  if (end != End::kSuccess) return;
  DetachAndCheck({"disk0", "target0"});
  const std::string copied = image("target0").Contents();
  for (Range range : whole_disk ? all : marked) {
    EXPECT_THAT(copied.substr(range.offset_bytes, range.length_bytes),
                HoldsSameAs(before.substr(range.offset_bytes, range.length_bytes)));
  }
  if (!whole_disk) {
    EXPECT_THAT(image("target0"), AllocatesExactly(marked));
  }
}

TEST_P(BitmapTable, IncrementalSucceeds) { Check(Rows()[0], End::kSuccess); }
TEST_P(BitmapTable, IncrementalFails) { Check(Rows()[0], End::kFailure); }
TEST_P(BitmapTable, IncrementalIsCancelled) { Check(Rows()[0], End::kCancel); }
TEST_P(BitmapTable, IncrementalOnSuccessSucceeds) { Check(Rows()[1], End::kSuccess); }
TEST_P(BitmapTable, BitmapOnSuccessSucceeds) { Check(Rows()[2], End::kSuccess); }
TEST_P(BitmapTable, BitmapOnSuccessFails) { Check(Rows()[2], End::kFailure); }
TEST_P(BitmapTable, BitmapOnSuccessIsCancelled) { Check(Rows()[2], End::kCancel); }
TEST_P(BitmapTable, BitmapAlwaysSucceeds) { Check(Rows()[3], End::kSuccess); }
TEST_P(BitmapTable, BitmapAlwaysFails) { Check(Rows()[3], End::kFailure); }
TEST_P(BitmapTable, BitmapAlwaysIsCancelled) { Check(Rows()[3], End::kCancel); }
TEST_P(BitmapTable, BitmapNeverSucceeds) { Check(Rows()[4], End::kSuccess); }
TEST_P(BitmapTable, BitmapNeverFails) { Check(Rows()[4], End::kFailure); }
TEST_P(BitmapTable, BitmapNeverIsCancelled) { Check(Rows()[4], End::kCancel); }
TEST_P(BitmapTable, FullOnSuccessSucceeds) { Check(Rows()[5], End::kSuccess); }
TEST_P(BitmapTable, FullOnSuccessFails) { Check(Rows()[5], End::kFailure); }
TEST_P(BitmapTable, FullOnSuccessIsCancelled) { Check(Rows()[5], End::kCancel); }
TEST_P(BitmapTable, FullAlwaysSucceeds) { Check(Rows()[6], End::kSuccess); }
TEST_P(BitmapTable, FullAlwaysFails) { Check(Rows()[6], End::kFailure); }
TEST_P(BitmapTable, FullAlwaysIsCancelled) { Check(Rows()[6], End::kCancel); }
TEST_P(BitmapTable, TopOnSuccessSucceeds) { Check(Rows()[7], End::kSuccess); }
TEST_P(BitmapTable, TopOnSuccessFails) { Check(Rows()[7], End::kFailure); }
TEST_P(BitmapTable, TopOnSuccessIsCancelled) { Check(Rows()[7], End::kCancel); }
TEST_P(BitmapTable, TopAlwaysSucceeds) { Check(Rows()[8], End::kSuccess); }
TEST_P(BitmapTable, TopAlwaysFails) { Check(Rows()[8], End::kFailure); }
TEST_P(BitmapTable, TopAlwaysIsCancelled) { Check(Rows()[8], End::kCancel); }

TEST_P(BackupBitmapScenarios, AFailedIncrementalCostsOnlyAnotherIncremental) {
  const Ranges marked = {Clusters(4, 60)};
  CreateMarkedDisk(marked);
  Image::Create(folder().File("cramped.qcow2"), kDiskBytes);
  operate().Do(Add(CrampedOptions("cramped", folder().File("cramped.qcow2"), kMiB)));
  operate().Do(Backup({.job = "first", .target = "cramped", .sync = kIncremental, .bitmap = "b0"}));
  operate().AwaitEnd("first");
  EXPECT_EQ(operate().Job("first").outcome(), v1::JOB_OUTCOME_FAILED);
  EXPECT_EQ(operate().Job("first").error_reason(), v1::ERROR_REASON_NO_SPACE);

  operate().CreateDisk("target0");
  operate().Do(Backup({.job = "second", .sync = kIncremental, .bitmap = "b0"}));
  operate().Finish("second");
  DetachAndCheck({"disk0", "target0"});
  EXPECT_THAT(image("target0"), AllocatesExactly(marked));
}

TEST_P(BackupBitmapScenarios, TheBitmapChangesHandsOnlyWhenTheJobIsFinalized) {
  const Ranges marked = {Clusters(4, 8)};
  CreateMarkedDisk(marked);
  operate().CreateDisk("target0");
  operate().Do(Backup({.sync = kIncremental, .bitmap = "b0", .auto_finalize = false}));
  operate().AwaitStatus("job0", v1::JOB_STATUS_PENDING);
  guest().Write(9, Clusters(50, 1));
  EXPECT_TRUE(operate().Bitmap("disk0", "b0").busy());
  EXPECT_EQ(operate().Bitmap("disk0", "b0").count(), static_cast<int64_t>(BytesIn(marked)));
  operate().Do(OfJob<v1::JobFinalizeRequest>("job0"));
  operate().Finish("job0");
  EXPECT_EQ(operate().Marks("disk0", "b0"), Ranges{Clusters(50, 1)});
}

TEST_P(BackupBitmapScenarios, CancellingAPendingJobKeepsTheMarks) {
  const Ranges marked = {Clusters(4, 8)};
  CreateMarkedDisk(marked);
  operate().CreateDisk("target0");
  operate().Do(Backup({.sync = kIncremental, .bitmap = "b0", .auto_finalize = false}));
  operate().AwaitStatus("job0", v1::JOB_STATUS_PENDING);
  guest().Write(9, Clusters(50, 1));
  operate().CancelAndAwait("job0");
  EXPECT_EQ(operate().StoryOf("job0"), (Story{"created", "running", "waiting", "pending", "PENDING",
                                              "aborting", "CANCELLED", "concluded", "null"}));
  EXPECT_EQ(operate().Marks("disk0", "b0"), Merged({Clusters(4, 8), Clusters(50, 1)}));
}

TEST_P(BackupBitmapScenarios, ADisabledBitmapDrivesABackupAndRecordsNothing) {
  const Ranges marked = {Clusters(4, 60)};
  CreateMarkedDisk(marked);
  operate().Do(BitmapDisable("disk0", "b0"));
  operate().CreateDisk("target0");
  operate().Do(Backup({.sync = kBitmap, .bitmap = "b0", .mode = kNever, .speed = kHold}));
  guest().Write(9, Clusters(100, 2));
  operate().ReleaseAndFinish("job0");
  EXPECT_FALSE(operate().Bitmap("disk0", "b0").recording());
  EXPECT_EQ(operate().Marks("disk0", "b0"), marked);
}

TEST_P(BackupBitmapScenarios, ANamelessBitmapRecordsForTheBusyOne) {
  CreateMarkedDisk({Clusters(4, 60)});
  operate().CreateDisk("target0");
  operate().Do(Backup({.sync = kIncremental, .bitmap = "b0", .speed = kHold}));
  guest().Write(9, Clusters(100, 2));
  // There may be others, of the job itself.
  std::vector<int64_t> nameless;
  for (const v1::BlockDirtyInfo& info : operate().Bitmaps("disk0")) {
    if (info.name().empty()) nameless.push_back(info.count());
  }
  EXPECT_THAT(nameless, ::testing::Contains(static_cast<int64_t>(2 * kClusterBytes)));
  operate().CancelAndAwait("job0");
}

TEST_P(BackupBitmapScenarios, ABusyBitmapRefusesEverything) {
  CreateMarkedDisk({Clusters(4, 60)});
  operate().CreateDisk("target0");
  operate().CreateDisk("target1");
  operate().Do(BitmapAdd("disk0", "other"));
  operate().Do(Backup({.sync = kIncremental, .bitmap = "b0", .speed = kHold}));
  const Mentions mentions = {"b0"};
  constexpr auto kBusy = v1::ERROR_REASON_BITMAP_BUSY;
  ExpectRefused(BitmapClear("disk0", "b0"), kBusy, mentions);
  ExpectRefused(BitmapEnable("disk0", "b0"), kBusy, mentions);
  ExpectRefused(BitmapDisable("disk0", "b0"), kBusy, mentions);
  ExpectRefused(BitmapRemove("disk0", "b0"), kBusy, mentions);
  ExpectRefused(BitmapMerge("disk0", "b0", {"other"}), kBusy, mentions);
  ExpectRefused(BitmapMerge("disk0", "other", {"b0"}), kBusy, mentions);
  ExpectRefused(Backup({.job = "job1", .target = "target1", .sync = kIncremental, .bitmap = "b0"}),
                kBusy, mentions);
  ExpectRefused(ExportAdd("e", "disk0", /*writable=*/false, {"b0"}, "e"), kBusy, mentions);
  // Other bitmaps may be added meanwhile.
  operate().Do(BitmapAdd("disk0", "new"));
  operate().ReleaseAndFinish("job0");
  operate().Do(BitmapRemove("disk0", "b0"));
}

TEST_P(BackupBitmapScenarios, TheWritesOfAJobMarkTheBitmapOfItsTarget) {
  CreateMarkedDisk({Clusters(4, 2)});
  operate().CreateDisk("target0");
  operate().Do(BitmapAdd("target0", "t"));
  operate().Do(Backup({.sync = kIncremental, .bitmap = "b0"}));
  operate().Finish("job0");
  EXPECT_EQ(operate().Marks("target0", "t"), Ranges{Clusters(4, 2)});
}

ON_EVERY_BACKEND(BackupBitmapScenarios);
ON_EVERY_BACKEND(BitmapTable);

}  // namespace
}  // namespace tidemark::test
