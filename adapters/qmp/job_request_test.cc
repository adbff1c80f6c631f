#include "adapters/qmp/job_request.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tidemark/block/v1/copy.pb.h"
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

}  // namespace
}  // namespace tidemark::qmp
