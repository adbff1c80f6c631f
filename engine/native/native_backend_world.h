// For tests: a native engine through its seam, without gRPC, and an NBD client as its guest.
#ifndef ENGINE_NATIVE_NATIVE_BACKEND_WORLD_H_
#define ENGINE_NATIVE_NATIVE_BACKEND_WORLD_H_

#include <libnbd.h>
#include <stdlib.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/backend/command.h"
#include "engine/backend/event_log.h"
#include "engine/base/clock.h"
#include "engine/base/executor.h"
#include "engine/base/notification.h"
#include "engine/native/native_backend.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "tidemark/block/v1/export.pb.h"
#include "tidemark/block/v1/job.pb.h"
#include "tidemark/block/v1/node.pb.h"

namespace tidemark::native {

using namespace block::v1;  // NOLINT: for tests about requests.

inline constexpr uint64_t kDiskBytes = 8 << 20;
inline constexpr uint64_t kClusterBytes = 64 << 10;

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

// An engine over a folder of its own, called through the seam.
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
      Notification more;
      log_.WakeAfter(seen_, [&more] { more.Notify(); });
      ASSERT_TRUE(more.WaitFor(absl::Seconds(30)))
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

  BlockDeviceInfo NodeOf(const std::string& name) {
    const auto nodes = Call<QueryNamedBlockNodesRequest, QueryNamedBlockNodesResponse>("");
    EXPECT_TRUE(nodes.ok()) << nodes.status();
    for (const BlockDeviceInfo& node : nodes->nodes()) {
      if (node.node_name() == name) return node;
    }
    ADD_FAILURE() << "no node " << name;
    return {};
  }

  WorkerPool executor_{"test", 1};
  backend::EventLog log_{SystemClock(), executor_};
  std::string folder_;
  uint64_t seen_ = 0;
  std::unique_ptr<NativeBackend> backend_;
};

}  // namespace tidemark::native

#endif  // ENGINE_NATIVE_NATIVE_BACKEND_WORLD_H_
