// Jobs that QEMU names by itself, after a drive: they are kept like any other.
#include "tests/conformance/machine_world.h"
#include "tests/conformance/some_engines.h"

namespace tidemark::test {
namespace {

class JobNameScenarios : public SomeEngines {
 protected:
  // An overlay without a backing file, ready to be put above "plate0".
  v1::BlockdevSnapshotRequest PrepareOverlay() {
    Image::Create(operate().FileOf("overlay0"), kDiskBytes);
    v1::BlockdevOptions overlay = Qcow2Options("overlay0", operate().FileOf("overlay0"));
    overlay.mutable_qcow2()->mutable_backing()->mutable_none();
    operate().Do(Add(overlay));
    return Parse<v1::BlockdevSnapshotRequest>("node: 'plate0' overlay: 'overlay0'");
  }
  void AddTarget() { operate().Do(Add(NullOptions("target0", kDiskBytes))); }
  v1::BlockdevBackupRequest BackupWithoutId(const std::string& source) {
    BackupOptions options;
    options.job.clear();
    options.source = source;
    return Backup(options);
  }
  // The job "drive0" ends well, is told to its end, and leaves nothing behind.
  void ExpectWholeStory() {
    operate().Finish("drive0");
    EXPECT_THAT(operate().Jobs(), IsEmpty());
    EXPECT_TRUE(operate().Job("drive0").auto_dismiss());
    Restart(/*crash=*/false);
    const auto listed = operate().Do(v1::ListJobsRequest());
    for (const auto& job : listed.jobs()) EXPECT_EQ(job.id(), "drive0") << "a phantom";
    EXPECT_EQ(operate().Job("drive0").outcome(), v1::JOB_OUTCOME_SUCCEEDED);
  }
};

INSTANTIATE_TEST_SUITE_P(On, JobNameScenarios, ::testing::ValuesIn(DriveMachines()), NameOfBackend);

TEST_P(JobNameScenarios, ByTheDriveItself) {
  AddTarget();
  operate().Do(BackupWithoutId("drive0"));
  ExpectWholeStory();
}

TEST_P(JobNameScenarios, ByTheNodeThatTheDriveShows) {
  AddTarget();
  operate().Do(BackupWithoutId("plate0"));
  ExpectWholeStory();
}

TEST_P(JobNameScenarios, ByTheNodeThatTheDriveShowsSinceASnapshot) {
  operate().Do(PrepareOverlay());
  operate().Do(Parse<v1::BlockCommitRequest>("device: 'overlay0'"));
  operate().AwaitStatus("drive0", v1::JOB_STATUS_READY);
  operate().Do(OfJob<v1::JobCompleteRequest>("drive0"));
  ExpectWholeStory();
}

TEST_P(JobNameScenarios, ByTheNodeThatTheDriveShowsSinceASnapshotOfTheSameTransaction) {
  AddTarget();
  auto transaction = Transact(v1::Abort(), BackupWithoutId("overlay0"));
  *transaction.mutable_actions(0)->mutable_blockdev_snapshot() = PrepareOverlay();
  operate().Do(transaction);
  ExpectWholeStory();
}

TEST_P(JobNameScenarios, ANodeThatNoDriveShowsGivesNoName) {
  AddTarget();
  operate().Do(Add(NullOptions("disk0", kDiskBytes)));
  ExpectRefused(BackupWithoutId("disk0"), v1::ERROR_REASON_INVALID_FIELD, {});
}

}  // namespace
}  // namespace tidemark::test
