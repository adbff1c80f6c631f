#include "adapters/qmp/job_request.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tidemark/block/v1/chain.pb.h"
#include "tidemark/block/v1/copy.pb.h"
#include "tidemark/block/v1/mirror.pb.h"
#include "tidemark/block/v1/transaction.pb.h"

namespace tidemark::qmp {
namespace {

namespace v1 = ::tidemark::block::v1;
using ::testing::ElementsAre;

TEST(JobRequestTest, FindsTheJobsOfATransaction) {
  v1::TransactionRequest request;
  request.set_instance("vm");
  request.add_actions()->mutable_block_dirty_bitmap_add()->set_node("disk0");
  v1::BlockdevBackupRequest& backup = *request.add_actions()->mutable_blockdev_backup();
  backup.set_job_id("a");
  backup.set_device("disk0");
  backup.set_target("target0");
  backup.set_speed(5);
  v1::DriveBackupRequest& drive = *request.add_actions()->mutable_drive_backup();
  drive.set_device("drive1");
  drive.set_target("/file");
  drive.set_auto_dismiss(false);
  const std::vector<v1::Job> jobs = JobsStartedBy(request, "vm");
  ASSERT_EQ(jobs.size(), 2u);
  EXPECT_EQ(jobs[0].id(), "a");
  EXPECT_EQ(jobs[0].type(), v1::JOB_TYPE_BACKUP);
  EXPECT_THAT(jobs[0].node_names(), ElementsAre("disk0", "target0"));
  EXPECT_EQ(jobs[0].speed_bytes_per_second(), 5);
  EXPECT_TRUE(jobs[0].auto_dismiss());
  EXPECT_EQ(jobs[1].id(), "drive1");
  EXPECT_THAT(jobs[1].node_names(), ElementsAre("drive1"));
  EXPECT_FALSE(jobs[1].auto_dismiss());

  KeepResults(&request);
  EXPECT_TRUE(request.actions(1).blockdev_backup().has_auto_dismiss());
  EXPECT_FALSE(request.actions(1).blockdev_backup().auto_dismiss());
}

// drive0 shows disk0, drive1 shows top1, which stands on disk1.
const Json& Graph() {
  static const Json* const graph = new Json(Json::parse(R"({
    "nodes": [{"id": 1, "type": "block-backend", "name": "drive0"},
              {"id": 2, "type": "block-driver", "name": "disk0"},
              {"id": 3, "type": "block-backend", "name": "drive1"},
              {"id": 4, "type": "block-driver", "name": "top1"},
              {"id": 5, "type": "block-driver", "name": "disk1"},
              {"id": 6, "type": "block-backend", "name": ""},
              {"id": 7, "type": "block-driver", "name": "disk2"}],
    "edges": [{"parent": 1, "child": 2, "name": "root"}, {"parent": 3, "child": 4, "name": "root"},
              {"parent": 4, "child": 5, "name": "backing"},
              {"parent": 6, "child": 7, "name": "root"}]})"));
  return *graph;
}

template <typename Request>
std::string NameOfJobOn(const std::string& device) {
  Request request;
  request.set_device(device);
  EXPECT_TRUE(LacksJobId(request));
  std::vector<v1::Job> jobs = JobsStartedBy(request, "vm");
  NameAfterDrives(request, GraphView(Graph(), Json()), &jobs);
  return jobs.at(0).id();
}

TEST(JobRequestTest, AJobWithoutAnIdIsNamedAfterTheDriveThatShowsItsSource) {
  EXPECT_EQ(NameOfJobOn<v1::BlockdevBackupRequest>("drive0"), "drive0");
  EXPECT_EQ(NameOfJobOn<v1::BlockdevBackupRequest>("disk0"), "drive0");
  EXPECT_EQ(NameOfJobOn<v1::BlockCommitRequest>("top1"), "drive1");
  EXPECT_EQ(NameOfJobOn<v1::BlockStreamRequest>("top1"), "drive1");
  EXPECT_EQ(NameOfJobOn<v1::DriveMirrorRequest>("drive1"), "drive1");
  // No drive shows these: QEMU refuses.
  EXPECT_EQ(NameOfJobOn<v1::BlockdevMirrorRequest>("disk1"), "disk1");
  EXPECT_EQ(NameOfJobOn<v1::BlockdevMirrorRequest>("disk2"), "disk2");
}

TEST(JobRequestTest, ASnapshotInTheSameTransactionHandsItsDriveOn) {
  v1::TransactionRequest request;
  v1::BlockdevSnapshotRequest& snapshot = *request.add_actions()->mutable_blockdev_snapshot();
  snapshot.set_node("disk0");
  snapshot.set_overlay("overlay0");
  v1::BlockdevSnapshotSyncRequest& sync = *request.add_actions()->mutable_blockdev_snapshot_sync();
  sync.set_device("drive1");
  sync.set_snapshot_node_name("overlay1");
  for (const char* source : {"overlay0", "disk0", "overlay1"}) {
    request.add_actions()->mutable_blockdev_backup()->set_device(source);
  }
  request.add_actions()->mutable_blockdev_backup()->set_device("disk0");
  request.mutable_actions(5)->mutable_blockdev_backup()->set_job_id("own");
  std::vector<v1::Job> jobs = JobsStartedBy(request, "vm");
  NameAfterDrives(request, GraphView(Graph(), Json()), &jobs);
  ASSERT_EQ(jobs.size(), 4u);
  EXPECT_EQ(jobs[0].id(), "drive0");
  EXPECT_EQ(jobs[1].id(), "disk0");
  EXPECT_EQ(jobs[2].id(), "drive1");
  EXPECT_EQ(jobs[3].id(), "own");
}

}  // namespace
}  // namespace tidemark::qmp
