// Machines whose images are inactive, for they are, or have been, another's: nothing that is asked
// of them there may end them.
#include <memory>
#include <set>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "engine/backend/command.h"
#include "tests/conformance/machine_world.h"
#include "tests/conformance/some_engines.h"
#include "tests/support/process.h"
#include "tests/support/qmp_client.h"

namespace tidemark::test {
namespace {

// A machine that waits to be migrated here: its images are inactive.
class InactiveScenarios : public SomeEngines {
 protected:
  // disk0 over base0; its image keeps a bitmap "kept".
  void SetUp() override {
    SomeEngines::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    Image::Create(operate().FileOf("base0"), kDiskBytes);
    Image::Create(operate().FileOf("disk0"), kDiskBytes);
    image("disk0").Over(image("base0"));
    EXPECT_EQ(RunTool({"qemu-img", "bitmap", "--add", operate().FileOf("disk0"), "kept"}).errors,
              "");
    operate().Do(Add(FileOptions(operate().FileOf("base0"), "file-base0")));
    operate().Do(Parse<v1::BlockdevAddRequest>(
        "options { node_name: 'base0' qcow2 { file { reference: 'file-base0' } } }"));
    operate().Do(Add(FileOptions(operate().FileOf("disk0"), "file0")));
    operate().Do(Parse<v1::BlockdevAddRequest>(
        "options { node_name: 'disk0' qcow2 { file { reference: 'file0' } "
        "backing { reference: 'base0' } } }"));
  }
};

INSTANTIATE_TEST_SUITE_P(On, InactiveScenarios, ::testing::ValuesIn(WaitingMachines()),
                         NameOfBackend);

TEST_P(InactiveScenarios, AreNotResized) {
  ExpectRefused(Resize("disk0", 2 * kDiskBytes), v1::ERROR_REASON_MACHINE_STATE, {"disk0"});
}

TEST_P(InactiveScenarios, KeepTheNameOfTheirBackingFile) {
  ExpectRefused(Parse<v1::ChangeBackingFileRequest>(
                    "device: 'disk0' image_node_name: 'disk0' backing_file: 'other'"),
                v1::ERROR_REASON_MACHINE_STATE, {"disk0"});
}

TEST_P(InactiveScenarios, KeepTheirBitmaps) {
  ExpectRefused(BitmapAdd("disk0", "kept", absl::nullopt, true), v1::ERROR_REASON_BITMAP_EXISTS,
                {"kept", "disk0"});
  ExpectRefused(Transact(BitmapAdd("disk0", "kept")), v1::ERROR_REASON_BITMAP_EXISTS,
                {"kept", "disk0"});
  operate().Do(BitmapAdd("disk0", "new", absl::nullopt, true));
  operate().Do(BitmapRemove("disk0", "new"));
  {
    QmpClient other(SecondMonitor(folder()));
    other.Run("block-dirty-bitmap-add", R"({"node": "disk0", "name": "kept", "persistent": true})");
  }
  ExpectRefused(BitmapRemove("disk0", "kept"), v1::ERROR_REASON_MACHINE_STATE, {"kept", "disk0"});
}

TEST_P(InactiveScenarios, AreNeitherSourceNorTarget) {
  operate().CreateDisk("target0");
  ExpectRefused(Backup({}), v1::ERROR_REASON_MACHINE_STATE, {"disk0"});
  ExpectRefused(Parse<v1::BlockCommitRequest>("job_id: 'job0' device: 'disk0'"),
                v1::ERROR_REASON_MACHINE_STATE, {"disk0"});
  ExpectRefused(Parse<v1::BlockStreamRequest>("job_id: 'job0' device: 'disk0'"),
                v1::ERROR_REASON_MACHINE_STATE, {"disk0"});
}

// What is asked of an inactive disk0 over base0, in this order; '%' stands for the folder. Requests
// of every kind that changes the graph.
constexpr const char* kChanges[][2] = {
    {"block-dirty-bitmap-add", "node: 'disk0' name: 'b0' persistent: true"},
    {"block-dirty-bitmap-add", "node: 'disk0' name: 'b1'"},
    {"block-dirty-bitmap-clear", "node: 'disk0' name: 'b0'"},
    {"block-dirty-bitmap-disable", "node: 'disk0' name: 'b0'"},
    {"block-dirty-bitmap-enable", "node: 'disk0' name: 'b0'"},
    {"block-dirty-bitmap-merge", "node: 'disk0' target: 'b1' bitmaps { local: 'b0' }"},
    {"block-dirty-bitmap-merge",
     "node: 'disk0' target: 'b1' bitmaps { external { node: 'disk0' name: 'b0' } }"},
    {"blockdev-backup",
     "job_id: 'j0' device: 'disk0' target: 'target0' sync: MIRROR_SYNC_MODE_FULL"},
    {"blockdev-backup",
     "job_id: 'j1' device: 'null0' target: 'target0' sync: MIRROR_SYNC_MODE_FULL"},
    {"blockdev-backup", "job_id: 'j2' device: 'disk0' target: 'null0' sync: MIRROR_SYNC_MODE_NONE"},
    {"drive-backup", "job_id: 'j3' device: 'disk0' target: '%/j3' sync: MIRROR_SYNC_MODE_FULL"},
    {"blockdev-mirror",
     "job_id: 'j4' device: 'disk0' target: 'target0' sync: MIRROR_SYNC_MODE_FULL"},
    {"blockdev-mirror",
     "job_id: 'j5' device: 'null0' target: 'target0' sync: MIRROR_SYNC_MODE_FULL"},
    {"drive-mirror", "job_id: 'j6' device: 'disk0' target: '%/j6' sync: MIRROR_SYNC_MODE_FULL"},
    {"block-stream", "job_id: 'j7' device: 'disk0'"},
    {"block-commit", "job_id: 'j8' device: 'disk0'"},
    {"block_resize", "node_name: 'disk0' size: 1048576"},
    {"block_resize", "node_name: 'file0' size: 16777216"},
    {"block_resize", "node_name: 'file1' size: 16777216"},
    {"change-backing-file", "device: 'disk0' image_node_name: 'disk0' backing_file: 'other'"},
    {"change-backing-file", "device: 'disk0' image_node_name: 'base0' backing_file: 'other'"},
    {"block-set-write-threshold", "node_name: 'disk0' write_threshold: 65536"},
    {"blockdev-create",
     "job_id: 'j9' options { qcow2 { file { reference: 'file0' } size: 65536 } }"},
    {"blockdev-create",
     "job_id: 'j10' options { qcow2 { file { reference: 'file1' } size: 65536 } }"},
    {"blockdev-create", "job_id: 'j11' options { file { filename: '%/j11' size: 65536 } }"},
    {"x-blockdev-amend", "job_id: 'j12' node_name: 'disk0' options { qcow2 { } }"},
    {"blockdev-snapshot-internal-sync", "device: 'disk0' name: 's0'"},
    {"blockdev-snapshot-delete-internal-sync", "device: 'disk0' name: 's0'"},
    {"blockdev-snapshot-sync",
     "node_name: 'target0' snapshot_file: '%/s1' snapshot_node_name: 'snapshot1'"},
    {"blockdev-snapshot", "node: 'disk0' overlay: 'target0'"},
    {"blockdev-snapshot", "node: 'null0' overlay: 'overlay0'"},
    {"blockdev-reopen",
     "options { node_name: 'disk0' qcow2 { file { reference: 'file0' } backing { reference: "
     "'base0' } } }"},
    {"blockdev-reopen",
     "options { node_name: 'disk0' read_only: true qcow2 { file { reference: 'file0' } backing { "
     "none { } } } }"},
    {"x-blockdev-change", "parent: 'disk0' child: 'file'"},
    {"x-blockdev-change", "parent: 'disk0' node: 'null0'"},
    {"x-blockdev-set-iothread", "node_name: 'disk0' iothread { main_loop { } }"},
    {"object-add", "options { id: 'o0' iothread { } }"},
    {"object-del", "id: 'o0'"},
    {"nbd-server-start", "addr { unix_socket { path: '%/inactive.sock' } }"},
    {"nbd-server-add", "device: 'disk0'"},
    {"nbd-server-remove", "name: 'disk0'"},
    {"block-export-add", "id: 'e0' node_name: 'disk0' writable: true nbd { }"},
    {"block-export-add", "id: 'e1' node_name: 'disk0' nbd { bitmaps { local: 'b0' } }"},
    {"block-export-del", "id: 'e1'"},
    {"nbd-server-stop", ""},
    {"blockdev-open-tray", "id: 'cd0' force: true"},
    {"blockdev-remove-medium", "id: 'cd0'"},
    {"blockdev-insert-medium", "id: 'cd0' node_name: 'disk0'"},
    {"blockdev-close-tray", "id: 'cd0'"},
    {"eject", "id: 'cd0' force: true"},
    {"blockdev-change-medium", "id: 'cd0' filename: '%/base0.qcow2' format: 'qcow2'"},
    {"block_set_io_throttle", "id: 'cd0' bps: 0 bps_rd: 0 bps_wr: 0 iops: 0 iops_rd: 0 iops_wr: 0"},
    {"block-latency-histogram-set", "id: 'cd0'"},
    {"snapshot-save", "job_id: 'j13' tag: 's2' vmstate: 'disk0' devices: 'disk0'"},
    {"snapshot-delete", "job_id: 'j14' tag: 's2' devices: 'disk0'"},
    {"snapshot-load", "job_id: 'j15' tag: 's2' vmstate: 'disk0' devices: 'disk0'"},
    {"transaction", "actions { block_dirty_bitmap_add { node: 'disk0' name: 'b2' } }"},
    {"transaction", "actions { block_dirty_bitmap_clear { node: 'disk0' name: 'b0' } }"},
    {"transaction", "actions { block_dirty_bitmap_enable { node: 'disk0' name: 'b0' } }"},
    {"transaction", "actions { block_dirty_bitmap_disable { node: 'disk0' name: 'b0' } }"},
    {"transaction",
     "actions { block_dirty_bitmap_merge { node: 'disk0' target: 'b1' bitmaps { local: 'b0' } } }"},
    {"transaction", "actions { block_dirty_bitmap_remove { node: 'disk0' name: 'b2' } }"},
    {"transaction",
     "actions { blockdev_backup { job_id: 'j16' device: 'disk0' target: 'null0' sync: "
     "MIRROR_SYNC_MODE_FULL } }"},
    {"transaction",
     "actions { drive_backup { job_id: 'j17' device: 'disk0' target: '%/j17' sync: "
     "MIRROR_SYNC_MODE_FULL } }"},
    {"transaction",
     "actions { blockdev_snapshot_sync { node_name: 'target0' snapshot_file: '%/s3' "
     "snapshot_node_name: 'snapshot3' } }"},
    {"transaction", "actions { blockdev_snapshot_internal_sync { device: 'disk0' name: 's4' } }"},
    {"transaction", "actions { blockdev_snapshot { node: 'disk0' overlay: 'overlay1' } }"},
    {"transaction", "actions { abort { } }"},
    {"block-dirty-bitmap-remove", "node: 'disk0' name: 'b0'"},
    {"blockdev-add", "options { node_name: 'raw0' raw { file { reference: 'disk0' } } }"},
    {"blockdev-del", "node_name: 'raw0'"},
    {"stop", ""},
    {"cont", ""},
    {"blockdev-set-active", "node_name: 'disk0' active: false"},
    {"blockdev-set-active", "active: true"},
};

TEST_P(InactiveScenarios, NothingThatChangesTheGraphEndsThem) {
  for (const char* const node : {"target0", "overlay0", "overlay1"}) {
    Image::Create(operate().FileOf(node), kDiskBytes);
    v1::BlockdevOptions options = Qcow2Options(node, operate().FileOf(node));
    options.mutable_qcow2()->mutable_backing()->mutable_none();
    operate().Do(Add(options));
  }
  Image::Create(operate().FileOf("file1"), kDiskBytes, "raw");
  operate().Do(Add(FileOptions(operate().FileOf("file1"), "file1")));
  operate().Do(Add(NullOptions("null0", kDiskBytes)));
  QmpClient other(SecondMonitor(folder()));
  std::set<std::string> tried;
  for (const auto& [name, text] : kChanges) {
    const backend::Command& command = *backend::CommandIndex::Get().ByQmpName(name);
    const std::unique_ptr<google::protobuf::Message> request(command.request->New());
    const std::string whole = absl::StrCat("instance: 'vm' ", text);
    ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(
        absl::StrReplaceAll(whole, {{"%", folder().path()}}), request.get()))
        << text;
    const std::unique_ptr<google::protobuf::Message> response(command.response->New());
    uint64_t sequence = 0;
    const auto answer = world().client().Call(
        absl::StrCat("/", command.method->service()->full_name(), "/", command.method->name()),
        *request, response.get(), &sequence);
    SCOPED_TRACE(absl::StrCat(name, " ", text, " -> ", ::testing::PrintToString(answer)));
    ASSERT_NE(answer.code, absl::StatusCode::kUnavailable);
    ASSERT_EQ(other.Try("query-status"), "");
    tried.insert(name);
  }
  for (const auto& command : backend::CommandIndex::Get().commands()) {
    if (command->kind != backend::CommandKind::kGraph) continue;
    EXPECT_TRUE(tried.contains(command->qmp_name)) << command->qmp_name;
  }
}

// An image that its QEMU could not activate, because somebody beside us had added a bitmap that the
// image keeps, is lost to it: such a node has no driver.
TEST_P(InactiveScenarios, ANodeThatHasLostItsImageIsNotUsed) {
  QmpClient other(SecondMonitor(folder()));
  if (other.Try("blockdev-set-active", R"({"node-name": "disk0", "active": false})") != "") {
    GTEST_SKIP() << "this QEMU activates all images at once, when it has been migrated here";
  }
  operate().Do(Add(NullOptions("null0", kDiskBytes)));
  other.Run("block-dirty-bitmap-add", R"({"node": "disk0", "name": "kept", "persistent": true})");
  EXPECT_NE(other.Try("blockdev-set-active", R"({"node-name": "disk0", "active": true})"), "");
  const auto refused = [&](const auto& request) {
    EXPECT_THAT(operate().Try(request), Refused(v1::ERROR_REASON_MACHINE_STATE, Mentions{"disk0"}));
    ASSERT_EQ(other.Try("query-status"), "");
  };
  const auto snapshot = Parse<v1::BlockdevSnapshotRequest>("node: 'null0' overlay: 'disk0'");
  refused(snapshot);
  v1::TransactionRequest transaction;
  *transaction.add_actions()->mutable_blockdev_snapshot() = snapshot;
  refused(transaction);
  refused(Parse<v1::BlockdevReopenRequest>(
      "options { node_name: 'disk0' qcow2 { file { reference: 'file0' } backing { none { } } } }"));
  // Without it all is as before.
  operate().Do(Parse<v1::BlockdevDelRequest>("node_name: 'disk0'"));
  operate().Do(Parse<v1::BlockdevSnapshotRequest>("node: 'null0' overlay: 'base0'"));
}

// A machine that has been migrated here and was told to activate its images late: it is halted, as
// one that is merely paused.
class LateActivation : public SomeEngines {
 protected:
  void SetUp() override {
    SomeEngines::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    Image::Create(operate().FileOf("disk0"), kDiskBytes);
    Image::Create(operate().FileOf("raw0"), kDiskBytes, "raw");
    operate().Do(Add(FileOptions(operate().FileOf("disk0"), "file0")));
    operate().Do(Parse<v1::BlockdevAddRequest>(
        "options { node_name: 'disk0' qcow2 { file { reference: 'file0' } } }"));
    operate().Do(Add(FileOptions(operate().FileOf("raw0"), "raw0")));
  }

  // From another machine like it, that does not run.
  void Migrate(QmpClient& here) {
    const std::string socket = folder().File("source.sock");
    std::vector<std::string> command;
    for (const QemuBuild& build : QemuBuild::All()) {
      if (build.name() == GetParam().name) command = MachineCommand(build);
    }
    command.insert(command.end(), {"-S", "-qmp", absl::StrCat("unix:", socket, ",server=on")});
    Process source(command, folder().File("source.log"));
    QmpClient there(socket);
    const std::string to =
        absl::StrCat(R"({"uri": "unix:)", folder().File("migration.sock"), R"("})");
    for (QmpClient* const end : {&here, &there}) {
      end->Run("migrate-set-capabilities",
               R"({"capabilities": [{"capability": "late-block-activate", "state": true}]})");
    }
    here.Run("migrate-incoming", to);
    there.Run("migrate", to);
    for (int i = 0; i < 600; ++i) {
      if (absl::StrContains(here.Run("query-status"), "prelaunch")) return;
      absl::SleepFor(absl::Milliseconds(50));
    }
    FAIL() << "it has not been migrated";
  }
};

INSTANTIATE_TEST_SUITE_P(On, LateActivation, ::testing::ValuesIn(WaitingMachines()), NameOfBackend);

TEST_P(LateActivation, UntilItGoesOnItsImagesAreNotWritten) {
  QmpClient other(SecondMonitor(folder()));
  ASSERT_NO_FATAL_FAILURE(Migrate(other));
  for (const char* const node : {"disk0", "file0", "raw0"}) {
    ExpectRefused(Resize(node, 2 * kDiskBytes), v1::ERROR_REASON_MACHINE_STATE, {node});
  }
  ExpectRefused(Parse<v1::ChangeBackingFileRequest>(
                    "device: 'disk0' image_node_name: 'disk0' backing_file: 'other'"),
                v1::ERROR_REASON_MACHINE_STATE, {"disk0"});
  EXPECT_EQ(other.Try("query-status"), "");
  // Halted again it looks much the same, but its images are active.
  other.Run("cont");
  other.Run("stop");
  operate().Do(Resize("disk0", 2 * kDiskBytes));
}

}  // namespace
}  // namespace tidemark::test
