// What only a machine has: drives with trays, limits and statistics of a device, stop and go on,
// and snapshots of the whole machine.
#include <algorithm>
#include <numeric>

#include "absl/strings/match.h"
#include "tests/guest/stage.h"

namespace tidemark::test {
namespace {

// A virtio disk's own device lies below the one that was named.
constexpr char kDisk0[] = "/machine/peripheral/virtio0/virtio-backend";

class DeviceStory : public GuestStory {
 protected:
  std::vector<std::string> Devices() override { return {"-device", "ide-cd,id=cd0"}; }

  v1::BlockInfo Drive(const std::string& device) {
    const v1::QueryBlockResponse all = Do(v1::QueryBlockRequest());
    for (const v1::BlockInfo& info : all.devices()) {
      if (absl::StrContains(info.qdev(), device)) return info;
    }
    ADD_FAILURE() << "no device " << device;
    return {};
  }
  // What QEMU has counted of disk 0.
  v1::BlockDeviceStats Statistics() {
    const v1::QueryBlockstatsResponse all = Do(v1::QueryBlockstatsRequest());
    for (const v1::BlockStats& stats : all.stats()) {
      if (absl::StrContains(stats.qdev(), "virtio0")) return stats.stats();
    }
    ADD_FAILURE() << "no statistics of virtio0";
    return {};
  }
  void AwaitEvent(v1::EventKind kind) {
    EXPECT_TRUE(events().WaitUntil([&](const std::vector<v1::Event>& all) {
      return std::any_of(all.begin(), all.end(),
                         [&](const v1::Event& event) { return event.kind() == kind; });
    })) << v1::EventKind_Name(kind)
        << " does not come";
  }
  // Such a job stays until somebody has taken note of its result.
  void Dismiss(const std::string& job) {
    EXPECT_TRUE(events().WaitForStatus(job, v1::JOB_STATUS_CONCLUDED)) << job;
    EXPECT_EQ(Job(job).error(), "");
    Do(OfJob<v1::JobDismissRequest>(job));
    Finish(job);
  }
  // A disc with `text` on it.
  std::string Disc(const std::string& name, const std::string& text) {
    const std::string path = folder().File(name);
    WriteFile(path, text + std::string(65536 - text.size(), '\0'));
    return path;
  }
};

template <class Request>
Request OfDrive(const std::string& device) {
  Request request;
  request.set_id(device);
  return request;
}

TEST_P(DeviceStory, ADiscIsPutInChangedAndTakenOut) {
  v1::BlockdevOptions first = RawOptions("first", Disc("first.iso", "one"));
  first.set_read_only(true);
  Do(Add(first));
  EXPECT_TRUE(Drive("cd0").removable());
  EXPECT_FALSE(Drive("cd0").has_inserted());

  Do(OfDrive<v1::BlockdevOpenTrayRequest>("cd0"));
  AwaitEvent(v1::EVENT_KIND_DEVICE_TRAY_MOVED);
  EXPECT_TRUE(Drive("cd0").tray_open());
  auto insert = OfDrive<v1::BlockdevInsertMediumRequest>("cd0");
  insert.set_node_name("first");
  Do(insert);
  Do(OfDrive<v1::BlockdevCloseTrayRequest>("cd0"));
  EXPECT_FALSE(Drive("cd0").tray_open());
  EXPECT_EQ(Drive("cd0").inserted().node_name(), "first");

  Do(OfDrive<v1::BlockdevOpenTrayRequest>("cd0"));
  Do(OfDrive<v1::BlockdevRemoveMediumRequest>("cd0"));
  EXPECT_FALSE(Drive("cd0").has_inserted());
  Do(Del("first"));

  auto change = OfDrive<v1::BlockdevChangeMediumRequest>("cd0");
  change.set_filename(Disc("second.iso", "two"));
  change.set_format("raw");
  change.set_read_only_mode(v1::BLOCKDEV_CHANGE_READ_ONLY_MODE_READ_ONLY);
  Do(change);
  EXPECT_EQ(Drive("cd0").inserted().file(), change.filename());
  EXPECT_TRUE(Drive("cd0").inserted().ro());
  Do(OfDrive<v1::EjectRequest>("cd0"));
  EXPECT_FALSE(Drive("cd0").has_inserted());
}

TEST_P(DeviceStory, ADiskIsHeldBackAndLetGo) {
  v1::BlockSetIoThrottleRequest throttle;
  throttle.set_id(kDisk0);
  throttle.set_bps(0);
  throttle.set_bps_rd(0);
  throttle.set_bps_wr(0);
  throttle.set_iops(0);
  throttle.set_iops_rd(0);
  throttle.set_iops_wr(200);
  throttle.set_iops_wr_max(400);
  throttle.set_iops_wr_max_length(2);
  Do(throttle);
  const v1::BlockDeviceInfo held = Drive("virtio0").inserted();
  EXPECT_EQ(held.iops_wr(), 200);
  EXPECT_EQ(held.iops_wr_max(), 400);
  EXPECT_EQ(held.iops_wr_max_length(), 2);
  guest().AwaitMore(32);
  throttle.set_iops_wr(0);
  throttle.set_iops_wr_max(0);
  throttle.clear_iops_wr_max_length();
  Do(throttle);
  EXPECT_EQ(Drive("virtio0").inserted().iops_wr(), 0);
}

TEST_P(DeviceStory, WhatADiskDoesIsCounted) {
  v1::BlockLatencyHistogramSetRequest histogram;
  histogram.set_id(kDisk0);
  for (const uint64_t boundary : {10'000u, 1'000'000u, 100'000'000u}) {
    histogram.add_boundaries_write(boundary);
  }
  Do(histogram);
  const v1::BlockDeviceStats before = Statistics();
  // Of these, 16 may be written before it tells of them.
  guest().AwaitMore(112);
  const v1::BlockDeviceStats after = Statistics();
  EXPECT_GE(after.wr_operations() - before.wr_operations(), 64);
  EXPECT_GE(after.wr_bytes() - before.wr_bytes(), 64 * 4096);
  EXPECT_GT(after.flush_operations(), before.flush_operations());
  const auto& bins = after.wr_latency_histogram().bins();
  EXPECT_EQ(bins.size(), 4);
  EXPECT_GE(std::accumulate(bins.begin(), bins.end(), uint64_t{0}), 64u);
  EXPECT_FALSE(after.has_rd_latency_histogram());

  // And told of once, when it writes past a point.
  v1::BlockSetWriteThresholdRequest threshold;
  threshold.set_node_name("disk0");
  threshold.set_write_threshold(kGuestDiskBytes / 2);
  Do(threshold);
  AwaitEvent(v1::EVENT_KIND_BLOCK_WRITE_THRESHOLD);
}

TEST_P(DeviceStory, AStoppedMachineWritesNothingAndGoesOn) {
  EXPECT_TRUE(Do(v1::QueryStatusRequest()).running());
  Do(v1::StopRequest());
  AwaitEvent(v1::EVENT_KIND_STOP);
  EXPECT_EQ(Do(v1::QueryStatusRequest()).status(), v1::RUN_STATE_PAUSED);
  const int64_t written = Statistics().wr_operations();
  // A stopped machine can be backed up like any other.
  Image::Create(folder().File("target0.qcow2"), kGuestDiskBytes);
  Do(Add(Qcow2Options("target0", folder().File("target0.qcow2"))));
  Do(Backup({.target = "target0"}));
  Finish("job0");
  EXPECT_EQ(Statistics().wr_operations(), written);
  Do(v1::ContRequest());
  AwaitEvent(v1::EVENT_KIND_RESUME);
  EXPECT_EQ(Do(v1::QueryStatusRequest()).status(), v1::RUN_STATE_RUNNING);
  guest().AwaitMore(64);
}

TEST_P(DeviceStory, AMachineGoesBackToASnapshotOfAllOfIt) {
  v1::SnapshotSaveRequest save;
  save.set_job_id("save");
  save.set_tag("before");
  save.set_vmstate("disk0");
  save.add_devices("disk0");
  save.add_devices("disk1");
  Do(save);
  Dismiss("save");
  EXPECT_EQ(Drive("virtio0").inserted().image().snapshots(0).name(), "before");
  guest().AwaitMore(128);

  v1::SnapshotLoadRequest load;
  load.set_job_id("load");
  load.set_tag("before");
  load.set_vmstate("disk0");
  load.add_devices("disk0");
  load.add_devices("disk1");
  Do(load);
  Dismiss("load");
  // It says again what it had said before.
  guest().AwaitMore(64);

  v1::SnapshotDeleteRequest remove;
  remove.set_job_id("delete");
  remove.set_tag("before");
  remove.add_devices("disk0");
  remove.add_devices("disk1");
  Do(remove);
  Dismiss("delete");
  EXPECT_EQ(Drive("virtio0").inserted().image().snapshots_size(), 0);
  // 10.0.2 sometimes crashes at SIGTERM after a snapshot was loaded.
  Do(v1::StopRequest());
  guest().Kill();
  VerifyByGuest(Disks());
}

ON_EVERY_QEMU(DeviceStory);

}  // namespace
}  // namespace tidemark::test
