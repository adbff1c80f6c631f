// What an engine lacks: GetCapabilities leaves it out, and it is refused by name.
#include <google/protobuf/text_format.h>

#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/conformance/conformance.h"

namespace tidemark::test {
namespace {

class Unsupported : public Conformance {
 protected:
  void SetUp() override {
    Conformance::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    const v1::GetCapabilitiesResponse told = operate().Do(v1::GetCapabilitiesRequest());
    for (const v1::CommandCapability& command : told.commands()) {
      commands_.insert(command.command());
    }
  }

  // A good request, written as text, is refused if the engine lacks the command. What it has is
  // told about elsewhere.
  template <class Request>
  void ExpectRefusedIfLacking(const std::string& command, const std::string& text = "") {
    Request request;
    ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &request)) << text;
    if (commands_.count(command) == 1) return;
    ExpectRefused(request, v1::ERROR_REASON_COMMAND_UNSUPPORTED, {command});
  }

  std::set<std::string> commands_;
};

ON_EVERY_BACKEND(Unsupported);

TEST_P(Unsupported, JobsThatTheEngineLacksAreRefused) {
  ExpectRefusedIfLacking<v1::BlockdevMirrorRequest>(
      "blockdev-mirror", "job_id: 'm' device: 'a' target: 'b' sync: MIRROR_SYNC_MODE_FULL");
  ExpectRefusedIfLacking<v1::DriveMirrorRequest>(
      "drive-mirror", absl::StrCat("job_id: 'm' device: 'a' sync: MIRROR_SYNC_MODE_FULL target: '",
                                   folder().File("target.qcow2"), "'"));
  ExpectRefusedIfLacking<v1::BlockStreamRequest>("block-stream", "job_id: 's' device: 'a'");
  ExpectRefusedIfLacking<v1::BlockCommitRequest>("block-commit", "job_id: 'c' device: 'a'");
  ExpectRefusedIfLacking<v1::BlockdevAmendRequest>(
      "x-blockdev-amend", "job_id: 'a' node_name: 'a' options { qcow2 { } }");
  ExpectRefusedIfLacking<v1::SnapshotSaveRequest>("snapshot-save",
                                                  "job_id: 's' tag: 't' vmstate: 'a' devices: 'a'");
  ExpectRefusedIfLacking<v1::SnapshotLoadRequest>("snapshot-load",
                                                  "job_id: 's' tag: 't' vmstate: 'a' devices: 'a'");
  ExpectRefusedIfLacking<v1::SnapshotDeleteRequest>("snapshot-delete",
                                                    "job_id: 's' tag: 't' devices: 'a'");
}

TEST_P(Unsupported, ChangesOfNodesThatTheEngineLacksAreRefused) {
  ExpectRefusedIfLacking<v1::BlockdevReopenRequest>("blockdev-reopen",
                                                    "options { node_name: 'a' null_co { } }");
  ExpectRefusedIfLacking<v1::BlockdevSnapshotRequest>("blockdev-snapshot",
                                                      "node: 'a' overlay: 'b'");
  ExpectRefusedIfLacking<v1::BlockdevSnapshotSyncRequest>(
      "blockdev-snapshot-sync",
      absl::StrCat("node_name: 'a' snapshot_node_name: 'b' snapshot_file: '",
                   folder().File("overlay.qcow2"), "'"));
  ExpectRefusedIfLacking<v1::BlockdevSnapshotInternalSyncRequest>("blockdev-snapshot-internal-sync",
                                                                  "device: 'a' name: 's'");
  ExpectRefusedIfLacking<v1::BlockdevSnapshotDeleteInternalSyncRequest>(
      "blockdev-snapshot-delete-internal-sync", "device: 'a' name: 's'");
  ExpectRefusedIfLacking<v1::ChangeBackingFileRequest>(
      "change-backing-file", "device: 'a' image_node_name: 'a' backing_file: ''");
  ExpectRefusedIfLacking<v1::BlockSetWriteThresholdRequest>("block-set-write-threshold",
                                                            "node_name: 'a' write_threshold: 0");
  ExpectRefusedIfLacking<v1::BlockdevSetActiveRequest>("blockdev-set-active", "active: true");
  ExpectRefusedIfLacking<v1::BlockdevChangeRequest>("x-blockdev-change", "parent: 'a' node: 'b'");
  ExpectRefusedIfLacking<v1::BlockdevSetIothreadRequest>(
      "x-blockdev-set-iothread", "node_name: 'a' iothread { main_loop { } }");
  ExpectRefusedIfLacking<v1::DebugQueryBlockGraphRequest>("x-debug-query-block-graph");
  ExpectRefusedIfLacking<v1::ObjectAddRequest>("object-add",
                                               "options { id: 't' throttle_group { } }");
  ExpectRefusedIfLacking<v1::ObjectDelRequest>("object-del", "id: 't'");
}

TEST_P(Unsupported, DevicesThatTheEngineLacksAreRefused) {
  ExpectRefusedIfLacking<v1::BlockdevChangeMediumRequest>(
      "blockdev-change-medium",
      absl::StrCat("id: 'cd' filename: '", folder().File("medium.raw"), "'"));
  ExpectRefusedIfLacking<v1::BlockdevInsertMediumRequest>("blockdev-insert-medium",
                                                          "id: 'cd' node_name: 'a'");
  ExpectRefusedIfLacking<v1::BlockdevRemoveMediumRequest>("blockdev-remove-medium", "id: 'cd'");
  ExpectRefusedIfLacking<v1::BlockdevOpenTrayRequest>("blockdev-open-tray", "id: 'cd'");
  ExpectRefusedIfLacking<v1::BlockdevCloseTrayRequest>("blockdev-close-tray", "id: 'cd'");
  ExpectRefusedIfLacking<v1::EjectRequest>("eject", "id: 'cd'");
  ExpectRefusedIfLacking<v1::BlockSetIoThrottleRequest>(
      "block_set_io_throttle", "id: 'cd' bps: 0 bps_rd: 0 bps_wr: 0 iops: 0 iops_rd: 0 iops_wr: 0");
  ExpectRefusedIfLacking<v1::BlockLatencyHistogramSetRequest>("block-latency-histogram-set",
                                                              "id: 'cd'");
  ExpectRefusedIfLacking<v1::QueryBlockRequest>("query-block");
  ExpectRefusedIfLacking<v1::QueryBlockstatsRequest>("query-blockstats");
}

TEST_P(Unsupported, TheMachineThatTheEngineLacksIsRefused) {
  ExpectRefusedIfLacking<v1::QueryStatusRequest>("query-status");
  ExpectRefusedIfLacking<v1::StopRequest>("stop");
  ExpectRefusedIfLacking<v1::ContRequest>("cont");
}

// An action of a transaction is a field: it is refused by its path.
TEST_P(Unsupported, ActionsWithoutTheirCommandAreRefused) {
  if (commands_.count("blockdev-snapshot-internal-sync") == 1) return;
  v1::TransactionRequest request;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(
      "actions { blockdev_snapshot_internal_sync { device: 'a' name: 's' } }", &request));
  ExpectRefused(request, v1::ERROR_REASON_FIELD_UNSUPPORTED,
                {"actions[0].blockdev_snapshot_internal_sync"});
}

}  // namespace
}  // namespace tidemark::test
