// A backup whose target shows its source: read over NBD while guests overwrite what is read.
#include <atomic>
#include <thread>

#include "tests/conformance/conformance.h"

namespace tidemark::test {
namespace {

class FleecingScenarios : public Conformance {
 protected:
  static constexpr int kReads = 24;

  // A disk full of data, and an overlay of it to copy to.
  void CreateDisks() {
    CreateFullDisk();
    Image::Create(operate().FileOf("overlay"), kDiskBytes);
    v1::BlockdevOptions over = Qcow2Options("overlay", operate().FileOf("overlay"));
    over.mutable_qcow2()->mutable_backing()->set_reference("disk0");
    operate().Do(Add(over));
  }

  // Reads all of `node`, again and again, while a guest overwrites the disk from end to end.
  void ExpectReadsOfTheOld(const std::string& node, const std::string& before) {
    operate().Do(ExportAdd("fleece", node, /*writable=*/false));
    Guest reader({operate().nbd_socket(), node}, std::make_shared<ByteModel>(kDiskBytes));
    ASSERT_TRUE(reader.connected()) << reader.error();
    guest();
    std::atomic<bool> stop = false;
    std::thread writer([this, &stop] {
      for (uint64_t i = 0; !stop.load(); ++i) {
        // Every cluster for the first time, in an order that meets the reader everywhere.
        guest().Write(2 + i / 128, Clusters(i * 37 % 128, 1));
      }
    });
    int wrong = 0;
    for (int i = 0; i < kReads; ++i) {
      if (reader.ReadAll() != before) ++wrong;
    }
    stop = true;
    writer.join();
    EXPECT_EQ(wrong, 0) << "of " << kReads << " reads";
    EXPECT_THAT(guest().ReadAll(), HoldsSameAs(guest().model().bytes()));
  }

  void End() {
    operate().RemoveExport("fleece");
    operate().CancelAndAwait("job0");
    EXPECT_EQ(operate().StoryOf("job0"), Cancelled());
  }
};

TEST_P(FleecingScenarios, ReadersSeeTheOldContentsWhateverGuestsOverwriteMeanwhile) {
  CreateDisks();
  const std::string before = guest().model().bytes();
  operate().Do(Backup({.target = "overlay", .sync = kNone}));
  ExpectReadsOfTheOld("overlay", before);
  End();
}

TEST_P(FleecingScenarios, ReadersSeeThemThroughARawNodeOverTheTargetToo) {
  CreateDisks();
  const std::string before = guest().model().bytes();
  v1::BlockdevOptions raw;
  raw.set_node_name("raw");
  raw.mutable_raw()->mutable_file()->set_reference("overlay");
  operate().Do(Add(raw));
  operate().Do(Backup({.target = "raw", .sync = kNone}));
  ExpectReadsOfTheOld("raw", before);
  End();
}

ON_EVERY_BACKEND(FleecingScenarios);

// What a bitmap does not mark any more has reached the target for good.
class DurableBackupScenarios : public Conformance {};

TEST_P(DurableBackupScenarios, WhatACancelledBackupHasClearedSurvivesTheDeathOfTheService) {
  operate().CreateDisk("disk0");
  operate().Do(BitmapAdd("disk0", "b0", absl::nullopt, /*persistent=*/true));
  guest().Write(1, {0, kDiskBytes});
  const std::string before = guest().model().bytes();
  operate().CreateDisk("target0");
  operate().Do(Backup({.sync = v1::MIRROR_SYNC_MODE_BITMAP,
                       .bitmap = "b0",
                       .mode = v1::BITMAP_SYNC_MODE_ALWAYS,
                       .speed = static_cast<int64_t>(2 * kMiB)}));
  while (operate().BlockJob("job0").offset() < static_cast<int64_t>(3 * kMiB)) {
  }
  operate().CancelAndAwait("job0");
  Unplug();
  operate().Detach("disk0");
  Restart(/*crash=*/true);

  operate().Attach("disk0");
  EXPECT_FALSE(operate().Bitmap("disk0", "b0").inconsistent());
  const Ranges marks = operate().Marks("disk0", "b0");
  const std::string copied = image("target0").Contents();
  for (uint64_t at = 0; at < kDiskBytes; at += kClusterBytes) {
    bool marked = false;
    for (const Range& mark : marks) marked |= mark.Contains(at);
    if (marked) continue;
    EXPECT_THAT(copied.substr(at, kClusterBytes), HoldsSameAs(before.substr(at, kClusterBytes)))
        << "the cluster at " << at << " is not marked, so it must have been copied";
  }
}

ON_EVERY_BACKEND(DurableBackupScenarios);

}  // namespace
}  // namespace tidemark::test
