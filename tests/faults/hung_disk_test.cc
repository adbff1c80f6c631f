// One disk hangs: nobody else notices. The native engine through the seam, on real files, some of
// them on a file system that does not answer until the test lets it.
#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/backend/command.h"
#include "engine/backend/event_log.h"
#include "engine/base/clock.h"
#include "engine/base/error.h"
#include "engine/base/executor.h"
#include "engine/base/notification.h"
#include "engine/native/native_backend.h"
#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "tests/support/hanging_files.h"
#include "tests/support/temp_folder.h"
#include "tidemark/block/v1/bitmap.pb.h"
#include "tidemark/block/v1/export.pb.h"
#include "tidemark/block/v1/job.pb.h"
#include "tidemark/block/v1/node.pb.h"
#include "tidemark/block/v1/transaction.pb.h"

namespace tidemark::test {
namespace {

using namespace block::v1;  // NOLINT: a test about requests.
using native::NativeBackend;

// What is not answered by then is taken for hung itself: only a failing test waits so long.
constexpr std::chrono::seconds kPatience{60};

class HungDiskTest : public testing::Test {
 protected:
  void SetUp() override {
    const std::string below = folder_.MakeFolder("below");
    auto mounted = HangingFiles::Mount(below, folder_.MakeFolder("hung"));
    if (!mounted.ok()) GTEST_SKIP() << mounted.status();
    disk_ = *std::move(mounted);
    MakeBackend();
  }
  void MakeBackend() {
    NativeBackend::Options options{.version = "test"};
    options.shutdown_patience = absl::Seconds(1);
    backend_ = std::make_unique<NativeBackend>(std::move(options), &log_, &SystemClock());
  }
  void TearDown() override {
    if (disk_ != nullptr) disk_->Release();
    backend_ = nullptr;
    disk_ = nullptr;
  }

  template <typename Response>
  using Answer = std::future<absl::StatusOr<Response>>;

  // Calls the command whose request `text` is, and does not wait; $F in it is the test's folder, $H
  // that of the file system that hangs.
  template <typename Request, typename Response>
  Answer<Response> Start(std::string text) {
    for (size_t at; (at = text.find("$F")) != std::string::npos;) {
      text.replace(at, 2, folder_.path());
    }
    for (size_t at; (at = text.find("$H")) != std::string::npos;) {
      text.replace(at, 2, folder_.path() + "/hung");
    }
    Request request;
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &request)) << text;
    auto promise = std::make_shared<std::promise<absl::StatusOr<Response>>>();
    backend::Invoke<Response>(*backend_, request, [promise](absl::StatusOr<Response> response) {
      promise->set_value(std::move(response));
    });
    return promise->get_future();
  }
  template <typename Response>
  absl::StatusOr<Response> Wait(Answer<Response> answer) {
    if (answer.wait_for(kPatience) != std::future_status::ready) {
      return absl::DeadlineExceededError("no answer");
    }
    return answer.get();
  }
  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(const std::string& text) {
    return Wait<Response>(Start<Request, Response>(text));
  }
  template <typename Request, typename Response>
  void CallOk(const std::string& text) {
    const absl::StatusOr<Response> response = Call<Request, Response>(text);
    ASSERT_TRUE(response.ok()) << text << ": " << response.status();
  }
  template <typename Response>
  bool IsAnswered(const Answer<Response>& answer) {
    return answer.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
  }

  void WaitForJob(const std::string& id, JobStatus status) {
    for (;;) {
      absl::StatusOr<std::vector<backend::EventPtr>> events = log_.Read(seen_);
      ASSERT_TRUE(events.ok()) << events.status();
      for (const backend::EventPtr& event : *events) {
        seen_ = event->sequence();
        if (event->job_status_change().id() == id &&
            event->job_status_change().status() == status) {
          return;
        }
      }
      Notification more;
      log_.WakeAfter(seen_, [&more] { more.Notify(); });
      ASSERT_TRUE(more.WaitFor(absl::FromChrono(kPatience)))
          << "job " << id << " did not become " << JobStatus_Name(status);
    }
  }
  void CreateImage(const std::string& path) {
    CallOk<BlockdevCreateRequest, BlockdevCreateResponse>(
        absl::StrCat("job_id: 'f' options { file { filename: '", path, "' size: 0 } }"));
    WaitForJob("f", JOB_STATUS_CONCLUDED);
    CallOk<JobDismissRequest, JobDismissResponse>("id: 'f'");
    CallOk<BlockdevCreateRequest, BlockdevCreateResponse>(
        absl::StrCat("job_id: 'q' options { qcow2 { file { definition { file { filename: '", path,
                     "' } } } size: 8388608 } }"));
    WaitForJob("q", JOB_STATUS_CONCLUDED);
    CallOk<JobDismissRequest, JobDismissResponse>("id: 'q'");
  }
  static std::string Image(const std::string& node, const std::string& path) {
    return absl::StrCat("options { node_name: '", node,
                        "' qcow2 { file { definition { file { filename: '", path, "' } } } } }");
  }
  void AddImage(const std::string& node, const std::string& path) {
    CallOk<BlockdevAddRequest, BlockdevAddResponse>(Image(node, path));
  }
  Answer<BlockdevAddResponse> StartAdd(const std::string& node, const std::string& path) {
    return Start<BlockdevAddRequest, BlockdevAddResponse>(Image(node, path));
  }
  std::vector<std::string> NodeNames() {
    std::vector<std::string> names;
    const auto nodes =
        Call<QueryNamedBlockNodesRequest, QueryNamedBlockNodesResponse>("flat: true");
    EXPECT_TRUE(nodes.ok()) << nodes.status();
    if (!nodes.ok()) return names;
    for (const BlockDeviceInfo& node : nodes->nodes()) names.push_back(node.node_name());
    return names;
  }

  // Everything that somebody with healthy disks does, from making them to letting go of them. `tag`
  // keeps the names apart.
  void WorkOnHealthyDisks(const std::string& tag) {
    SCOPED_TRACE(tag);
    const std::string disk = "disk-" + tag;
    const std::string full = "full-" + tag;
    for (const std::string& name : {disk, full}) {
      CreateImage("$F/" + name);
      AddImage(name, "$F/" + name);
      if (HasFatalFailure()) return;
    }
    CallOk<BlockDirtyBitmapAddRequest, BlockDirtyBitmapAddResponse>(
        absl::StrCat("node: '", disk, "' name: 'b' persistent: true"));
    CallOk<NbdServerStartRequest, NbdServerStartResponse>(
        "addr { unix_socket { path: '$F/nbd' } }");
    CallOk<BlockExportAddRequest, BlockExportAddResponse>(
        absl::StrCat("id: 'e' node_name: '", disk, "' writable: true nbd {}"));
    CallOk<TransactionRequest, TransactionResponse>(
        absl::StrCat("actions { blockdev_backup { job_id: 'j' device: '", disk, "' target: '", full,
                     "' sync: MIRROR_SYNC_MODE_FULL auto_finalize: false } }"));
    WaitForJob("j", JOB_STATUS_PENDING);
    CallOk<JobFinalizeRequest, JobFinalizeResponse>("id: 'j'");
    WaitForJob("j", JOB_STATUS_NULL);
    EXPECT_THAT(NodeNames(), testing::IsSupersetOf({disk, full}));
    CallOk<BlockExportDelRequest, BlockExportDelResponse>("id: 'e'");
    CallOk<NbdServerStopRequest, NbdServerStopResponse>("");
    CallOk<BlockResizeRequest, BlockResizeResponse>(
        absl::StrCat("node_name: '", full, "' size: 16777216"));
    for (const std::string& name : {disk, full}) {
      CallOk<BlockdevDelRequest, BlockdevDelResponse>(absl::StrCat("node_name: '", name, "'"));
    }
  }

  TempFolder folder_;
  WorkerPool executor_{"test", 1};
  backend::EventLog log_{SystemClock(), executor_};
  uint64_t seen_ = 0;
  std::unique_ptr<HangingFiles> disk_;
  std::unique_ptr<NativeBackend> backend_;
};

TEST_F(HungDiskTest, AFileThatHangsWhenItIsOpenedHoldsUpNobodyElse) {
  CreateImage("$H/disk");
  disk_->Hang(HangingFiles::kOpens);
  auto add = StartAdd("hung", "$H/disk");
  disk_->WaitForHung(1);
  WorkOnHealthyDisks("a");
  EXPECT_FALSE(IsAnswered(add));
  disk_->Release();
  const auto added = Wait<BlockdevAddResponse>(std::move(add));
  EXPECT_TRUE(added.ok()) << added.status();
  EXPECT_THAT(NodeNames(), testing::Contains("hung"));
}

TEST_F(HungDiskTest, AnImageThatHangsWhenItIsClosedHoldsUpNobodyElse) {
  CreateImage("$H/disk");
  AddImage("hung", "$H/disk");
  disk_->Hang(HangingFiles::kFlushes);
  auto del = Start<BlockdevDelRequest, BlockdevDelResponse>("node_name: 'hung'");
  disk_->WaitForHung(1);
  WorkOnHealthyDisks("a");
  EXPECT_FALSE(IsAnswered(del));
  disk_->Release();
  const auto deleted = Wait<BlockdevDelResponse>(std::move(del));
  EXPECT_TRUE(deleted.ok()) << deleted.status();
}

TEST_F(HungDiskTest, AFileWhoseLocksHangHoldsUpNobodyElse) {
  CreateImage("$H/disk");
  disk_->Hang(HangingFiles::kLocks);
  auto add = StartAdd("hung", "$H/disk");
  disk_->WaitForHung(1);
  WorkOnHealthyDisks("a");
  EXPECT_FALSE(IsAnswered(add));
  disk_->Release();
  const auto added = Wait<BlockdevAddResponse>(std::move(add));
  EXPECT_TRUE(added.ok()) << added.status();
}

TEST_F(HungDiskTest, NodesAreListedWhileADiskTellsNothing) {
  CreateImage("$H/disk");
  AddImage("hung", "$H/disk");
  AddImage("also-hung", "$H/disk");
  disk_->Hang(HangingFiles::kStats);
  for (int i = 0; i < 3; ++i) EXPECT_THAT(NodeNames(), testing::Contains("hung"));
  WorkOnHealthyDisks("a");
}

TEST_F(HungDiskTest, WhatConcernsTheHungDiskWaitsAndComesInOrder) {
  CreateImage("$H/disk");
  disk_->Hang(HangingFiles::kOpens);
  auto add = StartAdd("hung", "$H/disk");
  auto bitmap = Start<BlockDirtyBitmapAddRequest, BlockDirtyBitmapAddResponse>(
      "node: 'hung' name: 'b' persistent: true");
  auto del = Start<BlockdevDelRequest, BlockdevDelResponse>("node_name: 'hung'");
  // The same file and the same name: neither is free before.
  auto same_file = StartAdd("other-name", "$H/disk");
  auto same_name = StartAdd("hung", "$F/nothing");
  disk_->WaitForHung(1);
  WorkOnHealthyDisks("a");
  EXPECT_FALSE(IsAnswered(bitmap) || IsAnswered(del) || IsAnswered(same_file) ||
               IsAnswered(same_name));
  disk_->Release();
  EXPECT_TRUE(Wait<BlockdevAddResponse>(std::move(add)).ok());
  EXPECT_TRUE(Wait<BlockDirtyBitmapAddResponse>(std::move(bitmap)).ok());
  EXPECT_TRUE(Wait<BlockdevDelResponse>(std::move(del)).ok());
  const auto other = Wait<BlockdevAddResponse>(std::move(same_file));
  EXPECT_TRUE(other.ok()) << other.status();
  EXPECT_EQ(Wait<BlockdevAddResponse>(std::move(same_name)).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_THAT(NodeNames(), testing::Contains("other-name"));
}

TEST_F(HungDiskTest, ManyFilesThatHangTakeNoMoreThanTheirShare) {
  constexpr int kHungCount = 100;
  disk_->Hang(HangingFiles::kOpens);
  std::vector<Answer<BlockdevAddResponse>> adds;
  for (int i = 0; i < kHungCount; ++i) {
    adds.push_back(StartAdd(absl::StrCat("hung", i), absl::StrCat("$H/disk", i)));
  }
  disk_->WaitForHung(1);
  WorkOnHealthyDisks("a");
  disk_->Release();
  for (auto& add : adds) {
    EXPECT_EQ(Wait<BlockdevAddResponse>(std::move(add)).status().code(),
              absl::StatusCode::kNotFound);
  }
}

TEST_F(HungDiskTest, AJobWhoseTargetHangsWhenItIsClosedHoldsUpNoOtherJob) {
  for (const char* name : {"$F/source", "$H/target"}) CreateImage(name);
  AddImage("source", "$F/source");
  // What there is to write, and so to flush, when it is closed: a bitmap of its own.
  AddImage("target", "$H/target");
  CallOk<BlockDirtyBitmapAddRequest, BlockDirtyBitmapAddResponse>(
      "node: 'target' name: 'b' persistent: true");
  CallOk<BlockdevDelRequest, BlockdevDelResponse>("node_name: 'target'");
  CallOk<DriveBackupRequest, DriveBackupResponse>(
      "job_id: 'hung' device: 'source' target: '$H/target' sync: MIRROR_SYNC_MODE_FULL"
      " mode: NEW_IMAGE_MODE_EXISTING format: 'qcow2' auto_finalize: false");
  WaitForJob("hung", JOB_STATUS_PENDING);
  disk_->Hang(HangingFiles::kFlushes);
  CallOk<JobFinalizeRequest, JobFinalizeResponse>("id: 'hung'");
  disk_->WaitForHung(1);
  WorkOnHealthyDisks("a");
  disk_->Release();
  WaitForJob("hung", JOB_STATUS_NULL);
}

TEST_F(HungDiskTest, AShutdownSavesWhatIsHealthyAndGivesUpWhatHangs) {
  CreateImage("$F/healthy");
  CreateImage("$H/disk");
  AddImage("healthy", "$F/healthy");
  AddImage("hung", "$H/disk");
  for (const char* node : {"healthy", "hung"}) {
    CallOk<BlockDirtyBitmapAddRequest, BlockDirtyBitmapAddResponse>(
        absl::StrCat("node: '", node, "' name: 'b' persistent: true"));
  }
  disk_->Hang(HangingFiles::kFlushes);
  auto del = Start<BlockdevDelRequest, BlockdevDelResponse>("node_name: 'hung'");
  disk_->WaitForHung(1);
  auto behind = StartAdd("hung", "$H/disk");
  backend_->Shutdown();
  EXPECT_TRUE(backend_->gave_up());
  // Everybody is answered, once.
  EXPECT_FALSE(Wait<BlockdevDelResponse>(std::move(del)).ok());
  const absl::Status refused = Wait<BlockdevAddResponse>(std::move(behind)).status();
  ASSERT_TRUE(DetailsOf(refused).has_value()) << refused;
  EXPECT_EQ(DetailsOf(refused)->reason, Reason::kShuttingDown);
  disk_->Release();

  MakeBackend();
  AddImage("healthy", "$F/healthy");
  const auto nodes = Call<QueryNamedBlockNodesRequest, QueryNamedBlockNodesResponse>("flat: true");
  ASSERT_TRUE(nodes.ok());
  ASSERT_EQ(nodes->nodes(0).dirty_bitmaps_size(), 1) << nodes->DebugString();
  EXPECT_FALSE(nodes->nodes(0).dirty_bitmaps(0).inconsistent());
}

TEST_F(HungDiskTest, AShutdownGivesUpAJobWhoseTargetHangsAndSavesItsSource) {
  for (const char* name : {"$F/source", "$H/target"}) CreateImage(name);
  AddImage("source", "$F/source");
  AddImage("target", "$H/target");
  CallOk<BlockDirtyBitmapAddRequest, BlockDirtyBitmapAddResponse>(
      "node: 'source' name: 'b' persistent: true");
  disk_->Hang(HangingFiles::kFlushes);
  CallOk<BlockdevBackupRequest, BlockdevBackupResponse>(
      "job_id: 'j' device: 'source' target: 'target' sync: MIRROR_SYNC_MODE_BITMAP bitmap: 'b'"
      " bitmap_mode: BITMAP_SYNC_MODE_ON_SUCCESS");
  disk_->WaitForHung(1);
  backend_->Shutdown();
  EXPECT_TRUE(backend_->gave_up());
  disk_->Release();

  MakeBackend();
  AddImage("source", "$F/source");
  const auto nodes = Call<QueryNamedBlockNodesRequest, QueryNamedBlockNodesResponse>("flat: true");
  ASSERT_TRUE(nodes.ok());
  ASSERT_EQ(nodes->nodes(0).dirty_bitmaps_size(), 1) << nodes->DebugString();
  EXPECT_FALSE(nodes->nodes(0).dirty_bitmaps(0).inconsistent());
}

}  // namespace
}  // namespace tidemark::test
