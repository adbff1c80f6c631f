// Virtual machines as a whole, and the devices of their guests: media, limits, snapshots.
#include <algorithm>

#include "tests/conformance/machine_world.h"
#include "tests/conformance/some_engines.h"
#include "tests/support/qmp_client.h"

namespace tidemark::test {
namespace {

class MachineScenarios : public SomeEngines {
 protected:
  v1::BlockInfo Drive() {
    const auto response = operate().Do(v1::QueryBlockRequest());
    for (const v1::BlockInfo& info : response.devices()) {
      if (info.qdev().find("cd0") != std::string::npos) return info;
    }
    return {};
  }
  template <class Request>
  Request OfDrive() {
    Request request;
    request.set_id("cd0");
    return request;
  }
  // A medium in the drive, and the tray closed.
  void Insert(const std::string& node) {
    operate().Do(OfDrive<v1::BlockdevOpenTrayRequest>());
    auto insert = OfDrive<v1::BlockdevInsertMediumRequest>();
    insert.set_node_name(node);
    operate().Do(insert);
    operate().Do(OfDrive<v1::BlockdevCloseTrayRequest>());
  }
  // Waits for the end of a job that stays until it is dismissed, expects success, dismisses it.
  void FinishAndDismiss(const std::string& job) {
    operate().AwaitStatus(job, v1::JOB_STATUS_CONCLUDED);
    EXPECT_EQ(operate().QueriedJob(job).error(), "");
    operate().Do(OfJob<v1::JobDismissRequest>(job));
    operate().AwaitEnd(job);
  }
};

INSTANTIATE_TEST_SUITE_P(On, MachineScenarios, ::testing::ValuesIn(Machines()), NameOfBackend);

TEST_P(MachineScenarios, ItStopsAndGoesOn) {
  const v1::QueryStatusRequest query;
  EXPECT_TRUE(operate().Do(query).running());
  operate().Do(v1::StopRequest());
  EXPECT_EQ(operate().Do(query).status(), v1::RUN_STATE_PAUSED);
  ASSERT_TRUE(AwaitEvents(v1::EVENT_KIND_STOP, 1));
  operate().Do(v1::StopRequest());
  operate().Do(v1::ContRequest());
  EXPECT_EQ(operate().Do(query).status(), v1::RUN_STATE_RUNNING);
  ASSERT_TRUE(AwaitEvents(v1::EVENT_KIND_RESUME, 1));
  EXPECT_EQ(EventsOf(v1::EVENT_KIND_STOP).size(), 1u) << "it stood already";
}

TEST_P(MachineScenarios, AMediumIsPutInAndTakenOut) {
  operate().CreateDisk("disk0");
  EXPECT_TRUE(Drive().removable());
  auto insert = OfDrive<v1::BlockdevInsertMediumRequest>();
  insert.set_node_name("disk0");
  ExpectRefused(insert, v1::ERROR_REASON_DEVICE_STATE, {});
  Insert("disk0");
  EXPECT_EQ(Drive().inserted().node_name(), "disk0");
  EXPECT_FALSE(Drive().tray_open());
  ASSERT_TRUE(AwaitEvents(v1::EVENT_KIND_DEVICE_TRAY_MOVED, 2));
  const auto moved = EventsOf(v1::EVENT_KIND_DEVICE_TRAY_MOVED);
  EXPECT_TRUE(moved[0].device_tray_moved().tray_open());
  EXPECT_FALSE(moved[1].device_tray_moved().tray_open());

  EXPECT_FALSE(operate().Try(Del("disk0")).ok()) << "the drive uses it";
  ExpectRefused(OfDrive<v1::BlockdevRemoveMediumRequest>(), v1::ERROR_REASON_DEVICE_STATE, {"cd0"});
  operate().Do(OfDrive<v1::BlockdevOpenTrayRequest>());
  operate().Do(OfDrive<v1::BlockdevRemoveMediumRequest>());
  EXPECT_FALSE(Drive().has_inserted());
  operate().Detach("disk0");
}

TEST_P(MachineScenarios, AMediumIsChangedAndEjected) {
  Image::Create(folder().File("medium.raw"), kDiskBytes, "raw");
  auto change = OfDrive<v1::BlockdevChangeMediumRequest>();
  change.set_filename(folder().File("medium.raw"));
  change.set_format("raw");
  change.set_read_only_mode(v1::BLOCKDEV_CHANGE_READ_ONLY_MODE_READ_ONLY);
  operate().Do(change);
  EXPECT_EQ(Drive().inserted().file(), change.filename());
  EXPECT_TRUE(Drive().inserted().ro());
  operate().Do(OfDrive<v1::EjectRequest>());
  EXPECT_FALSE(Drive().has_inserted());
  change.set_filename(folder().File("nothing.raw"));
  EXPECT_FALSE(operate().Try(change).ok());
}

TEST_P(MachineScenarios, ADeviceThatIsNotThereIsRefused) {
  v1::EjectRequest eject;
  eject.set_id("nobody");
  ExpectRefused(eject, v1::ERROR_REASON_NODE_NOT_FOUND, {"nobody"});
  ExpectRefused(v1::EjectRequest(), v1::ERROR_REASON_INVALID_COMBINATION, {"id"});
}

TEST_P(MachineScenarios, LimitsAndCountsOfADevice) {
  operate().CreateDisk("disk0");
  Insert("disk0");
  operate().Do(Parse<v1::BlockSetIoThrottleRequest>(
      "id: 'cd0' bps: 1048576 bps_rd: 0 bps_wr: 0 iops: 0 iops_rd: 10 iops_wr: 0 iops_rd_max: 20"));
  EXPECT_EQ(Drive().inserted().bps(), 1048576);
  EXPECT_EQ(Drive().inserted().iops_rd(), 10);
  EXPECT_EQ(Drive().inserted().iops_rd_max(), 20);
  EXPECT_FALSE(operate()
                   .Try(Parse<v1::BlockSetIoThrottleRequest>(
                       "id: 'cd0' bps: 1 bps_rd: 1 bps_wr: 0 iops: 0 iops_rd: 0 iops_wr: 0"))
                   .ok());

  operate().Do(Parse<v1::BlockLatencyHistogramSetRequest>(
      "id: 'cd0' boundaries: 1000 boundaries: 2000 boundaries_flush: 5000"));
  const auto stats = operate().Do(v1::QueryBlockstatsRequest()).stats();
  const auto counted = std::find_if(stats.begin(), stats.end(), [](const v1::BlockStats& entry) {
    return entry.node_name() == "disk0";
  });
  ASSERT_NE(counted, stats.end());
  EXPECT_THAT(counted->stats().rd_latency_histogram().boundaries(), ElementsAre(1000, 2000));
  EXPECT_THAT(counted->stats().flush_latency_histogram().bins(), ElementsAre(0, 0));
}

TEST_P(MachineScenarios, MemoryAndDisksGoBackToASnapshot) {
  // 10.0.2 sometimes crashes at SIGTERM after a snapshot was loaded.
  world().KillQemuAtEnd();
  operate().CreateDisk("disk0");
  operate().Do(Parse<v1::SnapshotSaveRequest>(
      "job_id: 'save0' tag: 'before' vmstate: 'disk0' devices: 'disk0'"));
  FinishAndDismiss("save0");
  const auto snapshots = operate().Node("disk0").image().snapshots();
  ASSERT_EQ(snapshots.size(), 1);
  EXPECT_EQ(snapshots[0].name(), "before");
  EXPECT_GT(snapshots[0].vm_state_size(), 0);
  EXPECT_EQ(operate().Job("save0").type(), v1::JOB_TYPE_SNAPSHOT_SAVE);
  EXPECT_THAT(operate().Job("save0").node_names(), ElementsAre("disk0"));

  operate().Do(Parse<v1::SnapshotLoadRequest>(
      "job_id: 'load0' tag: 'before' vmstate: 'disk0' devices: 'disk0'"));
  FinishAndDismiss("load0");
  EXPECT_TRUE(operate().Do(v1::QueryStatusRequest()).running());

  operate().Do(
      Parse<v1::SnapshotDeleteRequest>("job_id: 'delete0' tag: 'before' devices: 'disk0'"));
  FinishAndDismiss("delete0");
  EXPECT_EQ(operate().Node("disk0").image().snapshots_size(), 0);
}

TEST_P(MachineScenarios, ASnapshotThatIsNotThereIsTheJobsError) {
  operate().CreateDisk("disk0");
  operate().Do(Parse<v1::SnapshotLoadRequest>(
      "job_id: 'load0' tag: 'never' vmstate: 'disk0' devices: 'disk0'"));
  operate().AwaitStatus("load0", v1::JOB_STATUS_CONCLUDED);
  EXPECT_NE(operate().QueriedJob("load0").error(), "");
  operate().Do(OfJob<v1::JobDismissRequest>("load0"));
}

TEST_P(MachineScenarios, ItsResetAndItsEndAreTold) {
  QmpClient other(SecondMonitor(folder()));
  other.Run("system_reset");
  ASSERT_TRUE(AwaitEvents(v1::EVENT_KIND_RESET, 1));
  const v1::ResetEvent reset = EventsOf(v1::EVENT_KIND_RESET)[0].reset();
  EXPECT_FALSE(reset.guest());
  EXPECT_EQ(reset.reason(), v1::SHUTDOWN_CAUSE_HOST_QMP_SYSTEM_RESET);

  other.Run("quit");
  ASSERT_TRUE(AwaitEvents(v1::EVENT_KIND_SHUTDOWN, 1));
  const v1::ShutdownEvent shutdown = EventsOf(v1::EVENT_KIND_SHUTDOWN)[0].shutdown();
  EXPECT_FALSE(shutdown.guest());
  EXPECT_EQ(shutdown.reason(), v1::SHUTDOWN_CAUSE_HOST_QMP_QUIT);
}

TEST_P(MachineScenarios, ADeviceThatIsGoneIsTold) {
  operate().Do(v1::StopRequest());
  operate().Do(Add(NullOptions("disk0", kDiskBytes)));
  {
    QmpClient other(SecondMonitor(folder()));
    other.Run("device_add",
              R"({"driver": "scsi-hd", "id": "hd0", "drive": "disk0", "bus": "scsi0.0"})");
    EXPECT_FALSE(operate().Try(Del("disk0")).ok()) << "the device uses it";
    other.Run("device_del", R"({"id": "hd0"})");
  }
  ASSERT_TRUE(AwaitEvents(v1::EVENT_KIND_DEVICE_DELETED, 1));
  const v1::DeviceDeletedEvent deleted =
      EventsOf(v1::EVENT_KIND_DEVICE_DELETED)[0].device_deleted();
  EXPECT_EQ(deleted.device(), "hd0");
  EXPECT_EQ(deleted.path(), "/machine/peripheral/hd0");
  operate().Do(Del("disk0"));
}

}  // namespace
}  // namespace tidemark::test
