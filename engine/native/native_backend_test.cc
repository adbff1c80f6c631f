// The main job through the seam, without gRPC. The scenarios proper are in tests/conformance.
#include "engine/native/native_backend.h"

#include <fcntl.h>
#include <libnbd.h>
#include <stdlib.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "engine/backend/command.h"
#include "engine/base/error.h"
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

constexpr uint64_t kDiskBytes = 8 << 20;
constexpr uint64_t kClusterBytes = 64 << 10;

// A client of one export.
class NbdClient {
 public:
  NbdClient(const std::string& socket, const std::string& name) : handle_(nbd_create()) {
    EXPECT_EQ(nbd_set_export_name(handle_, name.c_str()), 0) << nbd_get_error();
    EXPECT_EQ(nbd_connect_unix(handle_, socket.c_str()), 0) << nbd_get_error();
  }
  ~NbdClient() { nbd_close(handle_); }

  void Fill(char byte, uint64_t offset, uint64_t length) {
    const std::string data(length, byte);
    EXPECT_EQ(nbd_pwrite(handle_, data.data(), length, offset, 0), 0) << nbd_get_error();
  }
  std::string Read(uint64_t offset, uint64_t length) {
    std::string data(length, '?');
    EXPECT_EQ(nbd_pread(handle_, data.data(), length, offset, 0), 0) << nbd_get_error();
    return data;
  }

 private:
  nbd_handle* const handle_;
};

class NativeBackendTest : public testing::Test {
 protected:
  NativeBackendTest() {
    char path[] = "/tmp/native_backend_test.XXXXXX";
    folder_ = mkdtemp(path);
    backend_ = std::make_unique<NativeBackend>(NativeBackend::Options{.version = "test"}, &log_,
                                               &SystemClock());
  }
  ~NativeBackendTest() override {
    backend_ = nullptr;
    EXPECT_EQ(system(absl::StrCat("rm -r ", folder_).c_str()), 0);
  }

  // Calls the command whose request `text` is; $F in it is the test's folder.
  template <typename Request, typename Response>
  absl::StatusOr<Response> Call(std::string text) {
    for (size_t at; (at = text.find("$F")) != std::string::npos;) text.replace(at, 2, folder_);
    Request request;
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &request)) << text;
    return backend::InvokeAndWait<Response>(*backend_, request);
  }
  template <typename Request, typename Response>
  void CallOk(const std::string& text) {
    const absl::StatusOr<Response> response = Call<Request, Response>(text);
    EXPECT_TRUE(response.ok()) << text << ": " << response.status();
  }

  // Waits until the log tells that the job is in `status`.
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
      absl::Notification more;
      log_.WakeAfter(seen_, [&more] { more.Notify(); });
      ASSERT_TRUE(more.WaitForNotificationWithTimeout(absl::Seconds(30)))
          << "job " << id << " did not become " << JobStatus_Name(status);
    }
  }

  void CreateImage(const std::string& name) {
    CallOk<BlockdevCreateRequest, BlockdevCreateResponse>(
        absl::StrCat("job_id: 'f' options { file { filename: '$F/", name, "' size: 0 } }"));
    WaitForJob("f", JOB_STATUS_CONCLUDED);
    CallOk<JobDismissRequest, JobDismissResponse>("id: 'f'");
    CallOk<BlockdevCreateRequest, BlockdevCreateResponse>(
        absl::StrCat("job_id: 'q' options { qcow2 { file { definition { file { filename: '$F/",
                     name, "' } } } size: ", kDiskBytes, " } }"));
    WaitForJob("q", JOB_STATUS_CONCLUDED);
    CallOk<JobDismissRequest, JobDismissResponse>("id: 'q'");
  }
  void AddImage(const std::string& node, const std::string& name, const std::string& more = "") {
    CallOk<BlockdevAddRequest, BlockdevAddResponse>(absl::StrCat(
        "options { node_name: '", node, "' qcow2 { file { definition { file { filename: '$F/", name,
        "' } } } ", more, " } }"));
  }
  void StartServer() {
    CallOk<NbdServerStartRequest, NbdServerStartResponse>(
        "addr { unix_socket { path: '$F/nbd' } }");
  }
  void Export(const std::string& node, bool writable) {
    CallOk<BlockExportAddRequest, BlockExportAddResponse>(
        absl::StrCat("id: '", node, "' node_name: '", node,
                     "' writable: ", writable ? "true" : "false", " nbd {}"));
  }

  WorkerPool executor_{"test", 1};
  backend::EventLog log_{SystemClock(), executor_};
  std::string folder_;
  uint64_t seen_ = 0;
  std::unique_ptr<NativeBackend> backend_;
};

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

}  // namespace
}  // namespace tidemark::native
