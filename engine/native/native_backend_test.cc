// The main job through the seam, without gRPC. The scenarios proper are in tests/conformance.
#include "engine/native/native_backend.h"

#include <fcntl.h>
#include <libnbd.h>
#include <stdlib.h>
#include <unistd.h>

#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/backend/command.h"
#include "engine/base/error.h"
#include "engine/base/notification.h"
#include "engine/base/path_policy.h"
#include "engine/native/native_backend_world.h"
#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "tidemark/block/v1/bitmap.pb.h"
#include "tidemark/block/v1/export.pb.h"
#include "tidemark/block/v1/job.pb.h"
#include "tidemark/block/v1/node.pb.h"
#include "tidemark/block/v1/transaction.pb.h"

namespace tidemark::native {
namespace {

using namespace block::v1;  // NOLINT: a test about requests.

TEST_F(NativeBackendTest, AnIncrementalBackupHoldsOnlyWhatChanged) {
  for (const char* name : {"disk", "full", "delta"}) CreateImage(name);
  AddImage("disk", "disk");
  AddImage("full", "full");
  StartServer();
  Export("disk", true);
  {
    NbdClient guest(folder_ + "/nbd", "disk");
    guest.Fill('a', 0, 4 * kClusterBytes);
    CallOk<TransactionRequest, TransactionResponse>(
        "actions { block_dirty_bitmap_add { node: 'disk' name: 'b' } }"
        "actions { blockdev_backup { job_id: 'j' device: 'disk' target: 'full'"
        "          sync: MIRROR_SYNC_MODE_FULL } }");
    guest.Fill('b', 2 * kClusterBytes, kClusterBytes);
    WaitForJob("j", JOB_STATUS_NULL);
    CallOk<BlockdevDelRequest, BlockdevDelResponse>("node_name: 'full'");

    AddImage("delta", "delta", "backing { none {} }");
    CallOk<BlockdevBackupRequest, BlockdevBackupResponse>(
        "job_id: 'j' device: 'disk' target: 'delta' sync: MIRROR_SYNC_MODE_INCREMENTAL"
        " bitmap: 'b'");
    WaitForJob("j", JOB_STATUS_NULL);
  }
  CallOk<BlockdevDelRequest, BlockdevDelResponse>("node_name: 'delta'");

  AddImage("full", "full", "");
  AddImage("delta", "delta", "backing { reference: 'full' }");
  Export("full", false);
  Export("delta", false);
  NbdClient full(folder_ + "/nbd", "full");
  EXPECT_EQ(full.Read(0, 4 * kClusterBytes), std::string(4 * kClusterBytes, 'a'));
  NbdClient delta(folder_ + "/nbd", "delta");
  EXPECT_EQ(delta.Read(0, 4 * kClusterBytes), std::string(2 * kClusterBytes, 'a') +
                                                  std::string(kClusterBytes, 'b') +
                                                  std::string(kClusterBytes, 'a'));
}

TEST_F(NativeBackendTest, RefusalsNameTheObject) {
  const auto response =
      Call<BlockdevDelRequest, BlockdevDelResponse>("node_name: 'nothing-of-this-name'");
  EXPECT_EQ(response.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(response.status().ToString(), testing::HasSubstr("nothing-of-this-name"));
}

TEST_F(NativeBackendTest, ARefusedTransactionNamesItsAction) {
  CreateImage("disk");
  AddImage("disk", "disk");
  const auto response = Call<TransactionRequest, TransactionResponse>(
      "actions { block_dirty_bitmap_add { node: 'disk' name: 'b' } }"
      "actions { block_dirty_bitmap_clear { node: 'disk' name: 'c' } }");
  const auto details = DetailsOf(response.status());
  ASSERT_TRUE(details.has_value()) << response.status();
  EXPECT_THAT(details->metadata, testing::Contains(testing::Pair("field", "actions[1]")));
}

TEST_F(NativeBackendTest, AShutdownSavesPersistentBitmapsAndCancelsJobs) {
  CreateImage("disk");
  CreateImage("full");
  AddImage("disk", "disk");
  AddImage("full", "full");
  CallOk<BlockDirtyBitmapAddRequest, BlockDirtyBitmapAddResponse>(
      "node: 'disk' name: 'b' persistent: true");
  StartServer();
  Export("disk", true);
  {
    NbdClient guest(folder_ + "/nbd", "disk");
    guest.Fill('a', 3 * kClusterBytes, kClusterBytes);
  }
  CallOk<BlockdevBackupRequest, BlockdevBackupResponse>(
      "job_id: 'j' device: 'disk' target: 'full' sync: MIRROR_SYNC_MODE_FULL speed: 1");
  backend_->Shutdown();
  WaitForJob("j", JOB_STATUS_NULL);
  EXPECT_EQ((Call<BlockdevDelRequest, BlockdevDelResponse>("node_name: 'disk'").status().code()),
            absl::StatusCode::kUnavailable);

  backend_ = std::make_unique<NativeBackend>(NativeBackend::Options{.version = "test"}, &log_,
                                             &SystemClock());
  AddImage("disk", "disk");
  const auto nodes = Call<QueryNamedBlockNodesRequest, QueryNamedBlockNodesResponse>("");
  ASSERT_TRUE(nodes.ok()) << nodes.status();
  ASSERT_EQ(nodes->nodes(0).node_name(), "disk");
  ASSERT_EQ(nodes->nodes(0).dirty_bitmaps_size(), 1) << nodes->DebugString();
  EXPECT_EQ(nodes->nodes(0).dirty_bitmaps(0).count(), int64_t{kClusterBytes});
  EXPECT_TRUE(nodes->nodes(0).dirty_bitmaps(0).persistent());
}

TEST_F(NativeBackendTest, ARefusedOpenDoesNotCostTheBitmaps) {
  CreateImage("disk");
  AddImage("disk", "disk");
  CallOk<BlockDirtyBitmapAddRequest, BlockDirtyBitmapAddResponse>(
      "node: 'disk' name: 'b' persistent: true");
  StartServer();
  Export("disk", true);
  {
    NbdClient guest(folder_ + "/nbd", "disk");
    guest.Fill('a', 3 * kClusterBytes, kClusterBytes);
  }
  CallOk<NbdServerStopRequest, NbdServerStopResponse>("");
  CallOk<BlockdevDelRequest, BlockdevDelResponse>("node_name: 'disk'");

  const auto refused = Call<BlockdevAddRequest, BlockdevAddResponse>(
      "options { node_name: 'disk' qcow2 { file { definition { file { filename: '$F/disk' } } }"
      "          backing { reference: 'nothing-of-this-name' } } }");
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kNotFound) << refused.status();

  AddImage("disk", "disk");
  const BlockDeviceInfo disk = NodeOf("disk");
  ASSERT_EQ(disk.dirty_bitmaps_size(), 1) << disk.DebugString();
  EXPECT_FALSE(disk.dirty_bitmaps(0).inconsistent());
  EXPECT_EQ(disk.dirty_bitmaps(0).count(), int64_t{kClusterBytes});
}

TEST_F(NativeBackendTest, AnExportedTargetOfDriveBackupOutlivesItsJob) {
  CreateImage("disk");
  AddImage("disk", "disk");
  CallOk<DriveBackupRequest, DriveBackupResponse>(
      "job_id: 'j' device: 'disk' target: '$F/target' sync: MIRROR_SYNC_MODE_FULL speed: 1");
  const auto nodes = Call<QueryNamedBlockNodesRequest, QueryNamedBlockNodesResponse>("");
  ASSERT_TRUE(nodes.ok()) << nodes.status();
  std::string target;
  for (const BlockDeviceInfo& node : nodes->nodes()) {
    if (node.drv() == "qcow2" && node.file() == folder_ + "/target") target = node.node_name();
  }
  ASSERT_NE(target, "") << nodes->DebugString();
  StartServer();
  Export(target, false);
  CallOk<JobCancelRequest, JobCancelResponse>("id: 'j'");
  WaitForJob("j", JOB_STATUS_NULL);
  { EXPECT_EQ(NbdClient(folder_ + "/nbd", target).Read(0, 1), std::string(1, 0)); }

  CallOk<NbdServerStopRequest, NbdServerStopResponse>("");
  AddImage("again", "target");  // It was closed with its last user.
}

TEST_F(NativeBackendTest, AnExportKeepsTheNodeOfItsBitmap) {
  CreateImage("disk");
  CreateImage("other");
  AddImage("disk", "disk");
  AddImage("other", "other");
  CallOk<BlockDirtyBitmapAddRequest, BlockDirtyBitmapAddResponse>(
      "node: 'other' name: 'b' disabled: true");
  StartServer();
  CallOk<BlockExportAddRequest, BlockExportAddResponse>(
      "id: 'e' node_name: 'disk'"
      " nbd { bitmaps { external { node: 'other' name: 'b' } } }");
  EXPECT_FALSE((Call<BlockdevDelRequest, BlockdevDelResponse>("node_name: 'other'").ok()));
  CallOk<BlockExportDelRequest, BlockExportDelResponse>("id: 'e'");
  CallOk<BlockdevDelRequest, BlockdevDelResponse>("node_name: 'other'");
}

TEST_F(NativeBackendTest, NobodyWritesBelowTheFilterOfABackup) {
  CreateImage("disk");
  CreateImage("full");
  AddImage("disk", "disk");
  AddImage("full", "full");
  StartServer();
  CallOk<BlockdevBackupRequest, BlockdevBackupResponse>(
      "job_id: 'j' device: 'disk' target: 'full' sync: MIRROR_SYNC_MODE_FULL speed: 1");
  const auto writable = Call<BlockExportAddRequest, BlockExportAddResponse>(
      "id: 'e' node_name: 'disk' writable: true nbd {}");
  EXPECT_FALSE(writable.ok());
  EXPECT_FALSE(
      (Call<BlockResizeRequest, BlockResizeResponse>("node_name: 'disk' size: 1048576").ok()));
  CallOk<JobCancelRequest, JobCancelResponse>("id: 'j'");
  WaitForJob("j", JOB_STATUS_NULL);
  Export("disk", true);
}

TEST_F(NativeBackendTest, TheFilterOfABackupIsNobodysToWorkOn) {
  for (const char* name : {"disk", "full", "delta"}) {
    CreateImage(name);
    AddImage(name, name);
  }
  CallOk<BlockdevBackupRequest, BlockdevBackupResponse>(
      "job_id: 'j' device: 'disk' target: 'full' sync: MIRROR_SYNC_MODE_FULL speed: 1"
      " filter_node_name: 'above'");
  const auto backup = [&](const std::string& nodes) {
    return Call<BlockdevBackupRequest, BlockdevBackupResponse>(
               absl::StrCat("job_id: 'k' sync: MIRROR_SYNC_MODE_FULL ", nodes))
        .status();
  };
  EXPECT_THAT(backup("device: 'above' target: 'delta'").ToString(), testing::HasSubstr("'above'"));
  EXPECT_THAT(backup("device: 'delta' target: 'above'").ToString(), testing::HasSubstr("'above'"));
  EXPECT_FALSE(
      (Call<BlockDirtyBitmapAddRequest, BlockDirtyBitmapAddResponse>("node: 'above' name: 'b'")
           .ok()));
  CallOk<JobCancelRequest, JobCancelResponse>("id: 'j'");
  WaitForJob("j", JOB_STATUS_NULL);
}

TEST_F(NativeBackendTest, TheMakingOfAnImageEndsWhenItIsCancelled) {
  CallOk<BlockdevAddRequest, BlockdevAddResponse>(
      "options { node_name: 'huge' null_co { size: 1048576 } }");
  // Each writes more than could be written while the test runs.
  for (const char* options : {"raw { file { reference: 'huge' } size: 4611686018427387904"
                              " preallocation: PREALLOC_MODE_FULL }",
                              "qcow2 { file { reference: 'huge' } size: 70368744177664"
                              " preallocation: PREALLOC_MODE_FULL }"}) {
    CallOk<BlockdevCreateRequest, BlockdevCreateResponse>(
        absl::StrCat("job_id: 'c' options { ", options, " }"));
    WaitForJob("c", JOB_STATUS_RUNNING);
    CallOk<JobCancelRequest, JobCancelResponse>("id: 'c'");
    WaitForJob("c", JOB_STATUS_CONCLUDED);
    const auto jobs = Call<QueryJobsRequest, QueryJobsResponse>("");
    ASSERT_TRUE(jobs.ok() && jobs->jobs_size() == 1);
    EXPECT_EQ(jobs->jobs(0).error(), "Operation canceled");
    CallOk<JobDismissRequest, JobDismissResponse>("id: 'c'");
  }
  // Shutting down cancels, too.
  CallOk<BlockdevCreateRequest, BlockdevCreateResponse>(
      "job_id: 'c' options { raw { file { reference: 'huge' } size: 4611686018427387904"
      " preallocation: PREALLOC_MODE_FULL } }");
}

TEST_F(NativeBackendTest, DisksTooLargeForABitmapAreRefused) {
  for (const char* name : {"huge", "target"}) {
    CallOk<BlockdevAddRequest, BlockdevAddResponse>(
        absl::StrCat("options { node_name: '", name, "' null_co { size: 4611686018427387904 } }"));
  }
  const auto backup = Call<BlockdevBackupRequest, BlockdevBackupResponse>(
      "job_id: 'j' device: 'huge' target: 'target' sync: MIRROR_SYNC_MODE_FULL");
  EXPECT_EQ(backup.status().code(), absl::StatusCode::kResourceExhausted) << backup.status();

  CallOk<BlockdevCreateRequest, BlockdevCreateResponse>(
      "job_id: 'f' options { file { filename: '$F/raw' size: 1048576 } }");
  WaitForJob("f", JOB_STATUS_CONCLUDED);
  CallOk<BlockdevAddRequest, BlockdevAddResponse>(
      "options { node_name: 'raw' file { filename: '$F/raw' } }");
  CallOk<BlockDirtyBitmapAddRequest, BlockDirtyBitmapAddResponse>(
      "node: 'raw' name: 'b' granularity: 512");
  const auto resize =
      Call<BlockResizeRequest, BlockResizeResponse>("node_name: 'raw' size: 8796093022208");
  EXPECT_EQ(resize.status().code(), absl::StatusCode::kResourceExhausted) << resize.status();
}

TEST_F(NativeBackendTest, FilesOutsideTheRootsAreRefusedAlsoThroughLinks) {
  const std::string root = folder_ + "/root";
  ASSERT_EQ(system(absl::StrCat("mkdir ", root, " && ln -s /etc ", root, "/link").c_str()), 0);
  backend_ = nullptr;
  backend_ = std::make_unique<NativeBackend>(
      NativeBackend::Options{.version = "test", .policy = *PathPolicy::Create({root})}, &log_,
      &SystemClock());
  for (const std::string& path : {std::string("/etc/passwd"), root + "/link/passwd",
                                  root + "/../secret", root + "/link/new"}) {
    for (const std::string& refused :
         {Call<BlockdevAddRequest, BlockdevAddResponse>(
              absl::StrCat("options { node_name: 'n' file { filename: '", path, "' } }"))
              .status()
              .ToString(),
          Call<BlockdevCreateRequest, BlockdevCreateResponse>(
              absl::StrCat("job_id: 'j' options { file { filename: '", path, "' size: 0 } }"))
              .status()
              .ToString()}) {
      EXPECT_THAT(refused, testing::HasSubstr(path));
      EXPECT_THAT(refused, testing::HasSubstr(root));
    }
  }
  const auto jobs = Call<QueryJobsRequest, QueryJobsResponse>("");
  EXPECT_EQ(jobs->jobs_size(), 0) << "what is forbidden is no job's error";
}

// Sends a command and does not wait.
template <typename Request, typename Response>
std::future<absl::StatusOr<Response>> Send(NativeBackend& backend, const std::string& text) {
  Request request;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &request)) << text;
  auto promise = std::make_shared<std::promise<absl::StatusOr<Response>>>();
  backend::Invoke<Response>(backend, request, [promise](absl::StatusOr<Response> response) {
    promise->set_value(std::move(response));
  });
  return promise->get_future();
}

TEST_F(NativeBackendTest, CommandsOnOneDiskAreObeyedInTheOrderOfTheirCalls) {
  constexpr int kDisks = 4;
  constexpr int kRounds = 10;
  for (int disk = 0; disk < kDisks; ++disk) CreateImage(absl::StrCat("disk", disk));
  std::vector<std::future<absl::StatusOr<BlockdevAddResponse>>> adds;
  std::vector<std::future<absl::StatusOr<BlockDirtyBitmapAddResponse>>> bitmaps;
  std::vector<std::future<absl::StatusOr<BlockdevDelResponse>>> dels;
  for (int round = 0; round < kRounds; ++round) {
    for (int disk = 0; disk < kDisks; ++disk) {
      // A new name each time, so that the file alone says what must wait for what.
      const std::string node = absl::StrCat("n", disk, "-", round);
      adds.push_back(Send<BlockdevAddRequest, BlockdevAddResponse>(
          *backend_, absl::StrCat("options { node_name: '", node,
                                  "' qcow2 { file { definition { file { filename: '", folder_,
                                  "/./disk", disk, "' } } } } }")));
      bitmaps.push_back(Send<BlockDirtyBitmapAddRequest, BlockDirtyBitmapAddResponse>(
          *backend_, absl::StrCat("node: '", node, "' name: 'b", round, "' persistent: true")));
      dels.push_back(Send<BlockdevDelRequest, BlockdevDelResponse>(
          *backend_, absl::StrCat("node_name: '", node, "'")));
    }
  }
  for (auto& add : adds) EXPECT_TRUE(add.get().ok());
  for (auto& bitmap : bitmaps) EXPECT_TRUE(bitmap.get().ok());
  for (auto& del : dels) EXPECT_TRUE(del.get().ok());
  AddImage("disk0", "disk0");
  EXPECT_EQ(NodeOf("disk0").dirty_bitmaps_size(), kRounds);
}

TEST_F(NativeBackendTest, OneOfTwoNodesOfOneNameIsRefused) {
  for (int round = 0; round < 20; ++round) {
    std::vector<std::future<absl::StatusOr<BlockdevAddResponse>>> adds;
    for (int i = 0; i < 4; ++i) {
      adds.push_back(Send<BlockdevAddRequest, BlockdevAddResponse>(
          *backend_, "options { node_name: 'n' null_co { size: 1048576 } }"));
    }
    EXPECT_TRUE(adds[0].get().ok()) << "the first call wins";
    for (int i = 1; i < 4; ++i) EXPECT_FALSE(adds[i].get().ok());
    CallOk<BlockdevDelRequest, BlockdevDelResponse>("node_name: 'n'");
  }
}

TEST_F(NativeBackendTest, NoBitmapIsAddedOnceAllTakeTheirShareOfTheMemory) {
  backend_ = std::make_unique<NativeBackend>(
      NativeBackend::Options{.version = "test", .memory_bytes = kMemoryBytesMin}, &log_,
      &SystemClock());
  constexpr uint64_t kSizeBytes = uint64_t{8} << 30;
  CallOk<BlockdevCreateRequest, BlockdevCreateResponse>(absl::StrCat(
      "job_id: 'f' options { file { filename: '$F/sparse' size: ", kSizeBytes, " } }"));
  WaitForJob("f", JOB_STATUS_CONCLUDED);
  CallOk<BlockdevAddRequest, BlockdevAddResponse>(
      "options { node_name: 'disk' raw { file { definition { file { filename: '$F/sparse' } } } } "
      "}");
  const auto add = [this](int number) {
    return Call<BlockDirtyBitmapAddRequest, BlockDirtyBitmapAddResponse>(
        absl::StrCat("node: 'disk' name: 'b", number, "' granularity: 512"));
  };
  StartServer();
  Export("disk", true);
  for (int i = 0; i < 17; ++i) ASSERT_TRUE(add(i).ok());
  {
    // Nowhere is any of them all clean or all dirty: 2 MiB each.
    NbdClient guest(folder_ + "/nbd", "disk");
    for (uint64_t at = 0; at < kSizeBytes; at += 16 << 20) guest.Fill('x', at, 512);
  }
  const absl::Status refused = add(17).status();
  EXPECT_TRUE(HasReason(refused, Reason::kLimitReached)) << refused;
  EXPECT_THAT(std::string(refused.message()),
              testing::AllOf(testing::HasSubstr("'b17'"), testing::HasSubstr("33554432")));
  CallOk<BlockDirtyBitmapRemoveRequest, BlockDirtyBitmapRemoveResponse>("node: 'disk' name: 'b3'");
  CallOk<BlockDirtyBitmapRemoveRequest, BlockDirtyBitmapRemoveResponse>("node: 'disk' name: 'b4'");
  EXPECT_TRUE(add(17).ok());
}

}  // namespace
}  // namespace tidemark::native
