// Backups that are refused at the start, each for its reason, with nothing changed.
#include "tests/conformance/conformance.h"

namespace tidemark::test {
namespace {

class BackupRefusals : public Conformance {
 protected:
  void SetUp() override {
    Conformance::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    CreateFullDisk();
    operate().CreateDisk("target0");
    operate().Do(BitmapAdd("disk0", "b0"));
  }
};

constexpr auto kCombination = v1::ERROR_REASON_INVALID_COMBINATION;

TEST_P(BackupRefusals, SyncModesThatNeedABitmapAreRefusedWithoutOne) {
  ExpectRefused(Backup({.sync = kIncremental}), kCombination, {"bitmap"});
  ExpectRefused(Backup({.sync = kBitmap}), kCombination, {"bitmap"});
}

TEST_P(BackupRefusals, IncrementalTakesNoOtherBitmapMode) {
  ExpectRefused(Backup({.sync = kIncremental, .bitmap = "b0", .mode = kAlways}), kCombination,
                {"bitmap_mode"});
  ExpectRefused(Backup({.sync = kIncremental, .bitmap = "b0", .mode = kNever}), kCombination,
                {"bitmap_mode"});
}

TEST_P(BackupRefusals, ABitmapNeedsABitmapMode) {
  for (v1::MirrorSyncMode sync : {kBitmap, kFull, kTop}) {
    ExpectRefused(Backup({.sync = sync, .bitmap = "b0"}), kCombination, {"bitmap_mode"});
  }
}

TEST_P(BackupRefusals, ABitmapModeNeedsABitmap) {
  for (v1::MirrorSyncMode sync : {kFull, kTop, kNone}) {
    ExpectRefused(Backup({.sync = sync, .mode = kOnSuccess}), kCombination, {"bitmap"});
  }
}

TEST_P(BackupRefusals, ModeNeverMeansNothingForWholeDisks) {
  for (v1::MirrorSyncMode sync : {kFull, kTop}) {
    ExpectRefused(Backup({.sync = sync, .bitmap = "b0", .mode = kNever}), kCombination,
                  {"bitmap_mode"});
  }
}

TEST_P(BackupRefusals, SyncNoneTakesNoBitmap) {
  ExpectRefused(Backup({.sync = kNone, .bitmap = "b0", .mode = kOnSuccess}), kCombination,
                {"bitmap"});
}

TEST_P(BackupRefusals, UnknownObjectsAreNamed) {
  ExpectRefused(Backup({.source = "disk9"}), v1::ERROR_REASON_NODE_NOT_FOUND, {"disk9"});
  ExpectRefused(Backup({.target = "target9"}), v1::ERROR_REASON_NODE_NOT_FOUND, {"target9"});
  ExpectRefused(Backup({.sync = kIncremental, .bitmap = "b9"}), v1::ERROR_REASON_BITMAP_NOT_FOUND,
                {"b9"});
}

TEST_P(BackupRefusals, ABadJobIdIsRefused) {
  for (const char* id : {"1job", "job 0", "-job", "j/b"}) {
    ExpectRefused(Backup({.job = id}), v1::ERROR_REASON_INVALID_FIELD, {"job_id", id});
  }
  ExpectRefused(Backup({.job = "jöb"}), v1::ERROR_REASON_INVALID_FIELD, {"job_id"});
  ExpectRefused(Backup({.job = ""}), v1::ERROR_REASON_INVALID_FIELD, {"job"});
}

TEST_P(BackupRefusals, ALongJobIdIsFine) {
  const std::string id(300, 'j');
  operate().Do(Backup({.job = id}));
  operate().Finish(id);
}

TEST_P(BackupRefusals, AJobIdIsTakenUntilItsJobIsDismissed) {
  operate().Do(Backup({.auto_dismiss = false}));
  operate().AwaitStatus("job0", v1::JOB_STATUS_CONCLUDED);
  ExpectRefused(Backup({}), v1::ERROR_REASON_JOB_EXISTS, {"job0"});
  operate().Do(OfJob<v1::JobDismissRequest>("job0"));
  operate().Do(Backup({}));
  EXPECT_TRUE(events().WaitForStatusTimes("job0", v1::JOB_STATUS_NULL, 2));
}

TEST_P(BackupRefusals, NodesComeBeforeUsersBeforeIds) {
  operate().CreateDisk("target1");
  operate().Do(Backup({.speed = kHold}));
  // Wrong in two ways each: the first check in order answers.
  ExpectRefused(Backup({.job = "job0", .source = "disk9"}), v1::ERROR_REASON_NODE_NOT_FOUND,
                {"disk9"});
  ExpectRefused(Backup({.job = "job0"}), v1::ERROR_REASON_NODE_BUSY, {"target0"});
  ExpectRefused(Backup({.job = "job0", .target = "target1"}), v1::ERROR_REASON_JOB_EXISTS,
                {"job0"});
  operate().CancelAndAwait("job0");
}

TEST_P(BackupRefusals, ANegativeSpeedIsRefused) {
  ExpectRefused(Backup({.speed = -1}), v1::ERROR_REASON_INVALID_FIELD, {"speed", "-1"});
}

TEST_P(BackupRefusals, ADiskIsNotItsOwnTarget) {
  ExpectRefused(Backup({.target = "disk0"}), kCombination, {"disk0"});
}

TEST_P(BackupRefusals, SourceAndTargetMustHaveOneSize) {
  operate().CreateDisk("small", kDiskBytes / 2);
  ExpectRefused(Backup({.target = "small"}), v1::ERROR_REASON_SIZE_MISMATCH, {"disk0", "small"});
  operate().CreateDisk("large", kDiskBytes * 2);
  ExpectRefused(Backup({.target = "large"}), v1::ERROR_REASON_SIZE_MISMATCH, {"disk0", "large"});
}

TEST_P(BackupRefusals, ATargetServesOneJob) {
  operate().CreateDisk("disk1");
  operate().Do(Backup({.speed = kHold}));
  ExpectRefused(Backup({.job = "job1", .source = "disk1"}), v1::ERROR_REASON_NODE_BUSY,
                {"target0"});
  operate().CancelAndAwait("job0");
}

TEST_P(BackupRefusals, AReadOnlyNodeIsNoTarget) {
  Image::Create(operate().FileOf("frozen"), kDiskBytes);
  v1::BlockdevOptions options = Qcow2Options("frozen", operate().FileOf("frozen"));
  options.set_read_only(true);
  operate().Do(Add(options));
  ExpectRefused(Backup({.target = "frozen"}), v1::ERROR_REASON_NODE_READ_ONLY, {"frozen"});
}

TEST_P(BackupRefusals, TheNodesOfAJobCannotBeDeletedWhileItRuns) {
  operate().Do(Backup({.speed = kHold}));
  ExpectRefused(Del("disk0"), v1::ERROR_REASON_NODE_BUSY, {"disk0"});
  ExpectRefused(Del("target0"), v1::ERROR_REASON_NODE_BUSY, {"target0"});
  operate().CancelAndAwait("job0");
  operate().Detach("target0");
}

TEST_P(BackupRefusals, AFilterNameThatIsTakenIsRefused) {
  ExpectRefused(Backup({.filter_node_name = "target0"}), v1::ERROR_REASON_NODE_EXISTS, {"target0"});
}

TEST_P(BackupRefusals, CompressionNeedsAFormatThatCan) {
  Image::Create(folder().File("flat.raw"), kDiskBytes, "raw");
  operate().Do(Add(RawOptions("flat", folder().File("flat.raw"))));
  ExpectRefused(Backup({.target = "flat", .compress = true}), v1::ERROR_REASON_NODE_LACKS_FEATURE,
                {"flat"});
}

TEST_P(BackupRefusals, TuningIsChecked) {
  v1::BlockdevBackupRequest request = Backup({});
  request.mutable_x_perf()->set_max_workers(0);
  ExpectRefused(request, v1::ERROR_REASON_INVALID_FIELD, {"x_perf.max_workers", "0"});
  request = Backup({});
  request.mutable_x_perf()->set_max_chunk(100);
  ExpectRefused(request, v1::ERROR_REASON_INVALID_FIELD, {"100"});
}

TEST_P(BackupRefusals, WhatOnlyQemuKnowsIsRefusedByName) {
  v1::BlockdevBackupRequest request = Backup({});
  request.set_discard_source(true);
  ExpectRefused(request, v1::ERROR_REASON_FIELD_UNSUPPORTED, {"discard_source"});
}

TEST_P(BackupRefusals, BackupToAFileInAMissingFolder) {
  const std::string path = folder().File("nowhere/drive.qcow2");
  ExpectRefused(BackupToFile({.target = path}, "qcow2"), v1::ERROR_REASON_FILE_NOT_FOUND, {path});
}

TEST_P(BackupRefusals, BackupToAFileThatShouldExistAndDoesNot) {
  const std::string path = folder().File("missing.qcow2");
  ExpectRefused(BackupToFile({.target = path}, "qcow2", v1::NEW_IMAGE_MODE_EXISTING),
                v1::ERROR_REASON_FILE_NOT_FOUND, {path});
}

TEST_P(BackupRefusals, BackupToAFileOfAnUnknownFormat) {
  const std::string path = folder().File("drive.x");
  ExpectRefused(BackupToFile({.target = path}, "zip"), v1::ERROR_REASON_INVALID_FIELD, {"zip"});
}

TEST_P(BackupRefusals, UnknownNumbersOfEnumsAreRefusedByPath) {
  v1::BlockdevBackupRequest request = Backup({});
  request.set_sync(static_cast<v1::MirrorSyncMode>(77));
  ExpectRefused(request, v1::ERROR_REASON_INVALID_FIELD, {"sync", "77"});
}

ON_EVERY_BACKEND(BackupRefusals);

}  // namespace
}  // namespace tidemark::test
