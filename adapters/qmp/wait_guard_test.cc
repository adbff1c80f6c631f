// Nothing in a request makes QEMU wait, and its monitor with it, longer than a silent monitor is
// borne with: not its typed options, and not options in the clothes of a file name.
#include "adapters/qmp/wait_guard.h"

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/backend/validate.h"
#include "engine/base/error.h"
#include "google/protobuf/text_format.h"
#include "gtest/gtest.h"
#include "tidemark/block/v1/copy.pb.h"
#include "tidemark/block/v1/device.pb.h"
#include "tidemark/block/v1/mirror.pb.h"
#include "tidemark/block/v1/node.pb.h"
#include "tidemark/block/v1/node_graph.pb.h"
#include "tidemark/block/v1/snapshot.pb.h"
#include "tidemark/block/v1/transaction.pb.h"

namespace tidemark::qmp {
namespace {

namespace v1 = ::tidemark::block::v1;

template <class Request>
Request Parse(const std::string& text) {
  Request request;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &request)) << text;
  return request;
}

// The same options, to be added and to be opened anew.
void ExpectLimit(const std::string& driver, const std::string& field) {
  for (const auto& [value, is_legal] : std::initializer_list<std::pair<const char*, bool>>{
           {"0", true}, {"25", true}, {"26", false}, {"4294967295", false}}) {
    const std::string options =
        absl::StrCat("options { node_name: 'n' ", driver, " ", field, ": ", value, " } }");
    const auto add = Parse<v1::BlockdevAddRequest>(options);
    const auto reopen = Parse<v1::BlockdevReopenRequest>(options);
    for (const absl::Status& status : {backend::Validate(add), backend::Validate(reopen)}) {
      EXPECT_EQ(status.ok(), is_legal) << options << status;
      if (is_legal) continue;
      EXPECT_TRUE(HasReason(status, Reason::kInvalidField)) << status;
      EXPECT_TRUE(absl::StrContains(status.message(), field)) << status;
      EXPECT_TRUE(absl::StrContains(status.message(), "at most 25")) << status;
    }
  }
}

TEST(WaitLimits, OfAnNbdConnection) {
  ExpectLimit("nbd { server { vsock { cid: '2' port: '1' } }", "open_timeout");
  ExpectLimit("nbd { server { inet { host: 'h' port: '1' } }", "open_timeout");
}

TEST(WaitLimits, OfCurl) {
  for (const char* driver : {"http", "https", "ftp", "ftps"}) {
    ExpectLimit(absl::StrCat(driver, " { url: 'http://h/x'"), "timeout");
  }
}

v1::BlockdevSnapshotSyncRequest Snapshot(const std::string& name) {
  v1::BlockdevSnapshotSyncRequest request;
  request.set_device("disk0");
  request.set_snapshot_file(name);
  return request;
}

TEST(WaitGuard, ANameIsNoWayRoundTheLimit) {
  for (const char* name :
       {R"(json:{"driver": "nbd", "open-timeout": 4294967295})",
        R"(json:{"driver": "nbd", "open-timeout": 26})",
        R"(json:{"driver": "nbd", "open-timeout": "26"})",
        R"(json:{"driver": "nbd", "open-timeout": "0xffffffff"})",
        R"(json:{"driver": "nbd", "open-timeout": -1})",
        R"(json:{"driver": "nbd", "open-timeout": 1e9})",
        R"(json:{"driver": "nbd", "open\u002dtimeout": 4294967295})",
        R"(json:{"driver": "qcow2", "file": {"driver": "nbd", "open-timeout": 100}})",
        R"(json:{"driver": "qcow2", "file.open-timeout": 100})",
        R"(json:{"driver": "quorum", "children": [{"driver": "nbd", "open-timeout": 100}]})",
        R"(json:{"driver": "https", "timeout": 100})",
        R"(json:{'driver': 'nbd', 'open-timeout': 100})", "json:{", "json:"}) {
    const absl::Status status = CheckWaits(Snapshot(name));
    EXPECT_TRUE(HasReason(status, Reason::kInvalidField)) << name << status;
    EXPECT_TRUE(absl::StrContains(status.message(), "snapshot_file")) << status;
  }
}

TEST(WaitGuard, InEveryRequestThatOpensAFile) {
  const std::string name = R"('json:{\"driver\": \"nbd\", \"open-timeout\": 100}')";
  EXPECT_FALSE(CheckWaits(Parse<v1::DriveBackupRequest>("target: " + name)).ok());
  EXPECT_FALSE(CheckWaits(Parse<v1::DriveMirrorRequest>("target: " + name)).ok());
  EXPECT_FALSE(CheckWaits(Parse<v1::BlockdevChangeMediumRequest>("filename: " + name)).ok());
  EXPECT_FALSE(
      CheckWaits(Parse<v1::TransactionRequest>("actions { drive_backup { target: " + name + " } }"))
          .ok());
}

TEST(WaitGuard, OtherNamesPass) {
  for (const char* name :
       {"/a/file", "a/file", "nbd:host:1", "json", "/json:{",
        R"(json:{"driver": "nbd", "open-timeout": 25, "host": "h"})",
        R"(json:{"driver": "nbd", "open-timeout": "25", "host": "h"})",
        R"(json:{"driver": "raw", "file": {"driver": "file", "filename": "/timeout"}})"}) {
    EXPECT_TRUE(CheckWaits(Snapshot(name)).ok()) << name;
  }
  // Written into an image, and opened by nobody now.
  EXPECT_TRUE(CheckWaits(Parse<v1::ChangeBackingFileRequest>(
                             R"(backing_file: 'json:{\"open-timeout\": 100}')"))
                  .ok());
}

}  // namespace
}  // namespace tidemark::qmp
