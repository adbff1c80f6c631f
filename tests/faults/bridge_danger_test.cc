// What would end a live QEMU over how its nodes hang together is refused, and QEMU goes on.
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/conformance/requests.h"
#include "tests/faults/bridge_world.h"
#include "tests/support/process.h"

namespace tidemark::test {
namespace {

using ::testing::HasSubstr;

class BridgeDangerTest : public ::testing::TestWithParam<QemuBuild> {
 protected:
  void SetUp() override {
    if (!GetParam().Missing().empty()) GTEST_SKIP() << GetParam().Missing();
    world_.StartQemu(GetParam(), "vm");
    ASSERT_TRUE(world_.Register("vm").ok());
    ASSERT_TRUE(world_.WaitForState("vm", v1::INSTANCE_STATE_READY));
  }

  template <typename Request>
  Refusal Try(const Request& request) {
    return world_.ClientOf("vm").Invoke(request).refusal;
  }
  // By the bridge, which names the nodes, and not by QEMU.
  template <typename Request>
  void ExpectKeptFromQemu(const Request& request, const std::string& reason,
                          const std::vector<std::string>& mentions) {
    const Refusal refusal = Try(request);
    EXPECT_EQ(refusal.reason, reason) << refusal;
    EXPECT_THAT(refusal.message, HasSubstr("was not sent to QEMU")) << refusal;
    for (const std::string& mention : mentions) EXPECT_THAT(refusal.message, HasSubstr(mention));
  }
  void ExpectAlive() { EXPECT_TRUE(Try(v1::QueryNamedBlockNodesRequest()).ok()); }

  std::string PathOf(const std::string& node) { return world_.folder().File(node + ".qcow2"); }
  // A qcow2 node over another, whose name has "file" before it.
  static v1::BlockdevOptions OverFile(const std::string& node) {
    v1::BlockdevOptions options;
    options.set_node_name(node);
    options.mutable_qcow2()->mutable_file()->set_reference("file" + node);
    options.mutable_qcow2()->mutable_backing()->mutable_none();
    return options;
  }
  void AddDisk(const std::string& node) {
    ASSERT_EQ(RunTool({"qemu-img", "create", "-q", "-f", "qcow2", PathOf(node), "8M"}).exit_status,
              0);
    const Refusal file = Try(Add(FileOptions(PathOf(node), "file" + node)));
    ASSERT_TRUE(file.ok()) << file;
    const Refusal disk = Try(Add(OverFile(node)));
    ASSERT_TRUE(disk.ok()) << disk;
  }
  static v1::BlockdevReopenRequest Reopen(const v1::BlockdevOptions& options) {
    v1::BlockdevReopenRequest request;
    *request.add_options() = options;
    return request;
  }
  static v1::BlockdevReopenRequest PutOver(const std::string& node, const std::string& backing) {
    v1::BlockdevOptions options = OverFile(node);
    options.mutable_qcow2()->mutable_backing()->set_reference(backing);
    return Reopen(options);
  }
  static v1::BlockdevBackupRequest Copy(const std::string& job, const std::string& source,
                                        const std::string& target) {
    v1::BlockdevBackupRequest request;
    request.set_job_id(job);
    request.set_device(source);
    request.set_target(target);
    request.set_sync(v1::MIRROR_SYNC_MODE_FULL);
    return request;
  }

  BridgeWorld world_;
};

TEST_P(BridgeDangerTest, TheFilterOfABackupIsNotBackedUpOrSnapshot) {
  for (const char* const node : {"source", "target", "other"}) {
    ASSERT_TRUE(world_.AddNull("vm", node).ok());
  }
  v1::BlockdevBackupRequest slow = Copy("job", "source", "target");
  slow.set_filter_node_name("filter");
  slow.set_speed(1024);
  ASSERT_TRUE(Try(slow).ok());
  ExpectKeptFromQemu(Copy("second", "filter", "other"), "NODE_BUSY", {"'filter'", "'job'"});
  v1::BlockdevSnapshotRequest snapshot;
  snapshot.set_node("filter");
  snapshot.set_overlay("other");
  ExpectKeptFromQemu(snapshot, "NODE_BUSY", {"'filter'", "'job'"});
  // What stays is as good as ever.
  EXPECT_TRUE(Try(Copy("beside", "source", "other")).ok());
  ExpectAlive();
}

TEST_P(BridgeDangerTest, TheFileOfAnImageThatIsWrittenIsNotBackedUp) {
  AddDisk("disk");
  v1::DriveBackupRequest backup;
  backup.set_job_id("job");
  backup.set_device("filedisk");
  backup.set_target(world_.folder().File("copy"));
  backup.set_format("raw");
  backup.set_sync(v1::MIRROR_SYNC_MODE_FULL);
  ExpectKeptFromQemu(backup, "NODE_BUSY", {"'filedisk'", "'disk'"});
  ExpectAlive();
}

// QEMU itself would refuse them, and end when the node is removed.
TEST_P(BridgeDangerTest, AReopenThatFailsDoesNotLeaveANodeWithAFileThatIsGone) {
  AddDisk("disk");
  AddDisk("other");
  v1::BlockdevOptions raw;
  raw.set_node_name("disk");
  raw.mutable_raw()->mutable_file()->set_reference("fileother");
  ExpectKeptFromQemu(Reopen(raw), "INVALID_COMBINATION", {"'disk'", "'driver'"});
  v1::BlockdevOptions shared = OverFile("disk");
  shared.mutable_qcow2()->mutable_file()->set_reference("fileother");
  shared.set_read_only(true);
  shared.set_force_share(true);
  ExpectKeptFromQemu(Reopen(shared), "INVALID_COMBINATION", {"'disk'", "'force-share'"});
  v1::BlockdevDelRequest del;
  del.set_node_name("disk");
  EXPECT_TRUE(Try(del).ok());
  ExpectAlive();
}

TEST_P(BridgeDangerTest, AChildBelowWhichWaysMeetIsTakenAwayWhereQemuCan) {
  AddDisk("base");
  AddDisk("top");
  ASSERT_TRUE(Try(PutOver("base", "filebase")).ok());
  ASSERT_TRUE(Try(PutOver("top", "base")).ok());
  const v1::BlockdevReopenRequest away = Reopen(OverFile("top"));
  if (GetParam().name() == "Qemu72") {
    ExpectKeptFromQemu(away, "NODE_BUSY", {"'top'", "'base'", "'filebase'"});
  } else {
    const Refusal refusal = Try(away);
    EXPECT_TRUE(refusal.ok()) << refusal;
  }
  ExpectAlive();
}

INSTANTIATE_TEST_SUITE_P(, BridgeDangerTest, ::testing::ValuesIn(QemuBuild::All()),
                         [](const auto& info) { return info.param.name(); });

}  // namespace
}  // namespace tidemark::test
