// Mirrors whose users cannot be led to the target: the job says so, and they stay.
#include "engine/base/error.h"
#include "engine/native/native_backend_world.h"
#include "gmock/gmock.h"
#include "tidemark/block/v1/job_info.pb.h"
#include "tidemark/block/v1/job_verbs.pb.h"
#include "tidemark/block/v1/mirror.pb.h"
#include "tidemark/block/v1/node_graph.pb.h"

namespace tidemark::native {
namespace {

using ::testing::HasSubstr;

class MirrorPivotTest : public NativeBackendTest {
 protected:
  // `count` raw nodes, each on the one before: "a1" and so on, on a disk "a0".
  void AddStack(const std::string& prefix, int count) {
    CallOk<BlockdevAddRequest, BlockdevAddResponse>(
        absl::StrCat("options { node_name: '", prefix, "0' null_co { size: ", kDiskBytes, " } }"));
    for (int i = 1; i <= count; ++i) {
      CallOk<BlockdevAddRequest, BlockdevAddResponse>(absl::StrCat("options { node_name: '", prefix,
                                                                   i, "' raw { file { reference: '",
                                                                   prefix, i - 1, "' } } }"));
    }
  }
  std::string ErrorOf(const std::string& id) {
    const auto jobs = Call<QueryJobsRequest, QueryJobsResponse>("");
    EXPECT_TRUE(jobs.ok()) << jobs.status();
    for (const JobInfo& job : jobs->jobs()) {
      if (job.id() == id) return job.error();
    }
    return "no such job";
  }
};

// Together they would be deeper than nodes may be.
TEST_F(MirrorPivotTest, ThatWouldBeTooDeepIsTheJobsError) {
  AddStack("a", 150);
  AddStack("b", 100);
  CallOk<BlockdevMirrorRequest, BlockdevMirrorResponse>(
      "job_id: 'm' device: 'a0' target: 'b100' sync: MIRROR_SYNC_MODE_FULL auto_dismiss: false");
  WaitForJob("m", JOB_STATUS_READY);
  CallOk<JobCompleteRequest, JobCompleteResponse>("id: 'm'");
  WaitForJob("m", JOB_STATUS_CONCLUDED);
  EXPECT_THAT(ErrorOf("m"), HasSubstr("'a0' cannot be led to node 'b100'"));
  const auto in_use = Call<BlockdevDelRequest, BlockdevDelResponse>("node_name: 'a0'");
  EXPECT_TRUE(HasReason(in_use.status(), Reason::kNodeBusy)) << in_use.status();
  CallOk<BlockdevDelRequest, BlockdevDelResponse>("node_name: 'b100'");
}

TEST_F(MirrorPivotTest, ThatIsAsDeepAsNodesMayBeIsMade) {
  AddStack("a", 100);
  AddStack("b", 99);
  CallOk<BlockdevMirrorRequest, BlockdevMirrorResponse>(
      "job_id: 'm' device: 'a0' target: 'b99' sync: MIRROR_SYNC_MODE_FULL auto_dismiss: false");
  WaitForJob("m", JOB_STATUS_READY);
  CallOk<JobCompleteRequest, JobCompleteResponse>("id: 'm'");
  WaitForJob("m", JOB_STATUS_CONCLUDED);
  EXPECT_EQ(ErrorOf("m"), "");
  CallOk<BlockdevDelRequest, BlockdevDelResponse>("node_name: 'a0'");
}

}  // namespace
}  // namespace tidemark::native
