// Mirrors: they catch up, follow the guest, and end with its disk in another place or not.
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/conformance/some_engines.h"
#include "tests/support/random_writer.h"

namespace tidemark::test {
namespace {

class MirrorScenarios : public SomeEngines {
 protected:
  v1::BlockdevMirrorRequest Mirror() {
    return Parse<v1::BlockdevMirrorRequest>(
        "job_id: 'mirror0' device: 'disk0' target: 'target0' sync: MIRROR_SYNC_MODE_FULL");
  }
  void AwaitReady(const std::string& job = "mirror0") {
    EXPECT_TRUE(events().WaitForKind(job, v1::EVENT_KIND_BLOCK_JOB_READY));
  }
  // A disk with something on it, and a mirror of it that is ready.
  void StartReady(const v1::BlockdevMirrorRequest& mirror) {
    operate().CreateDisk("disk0");
    operate().CreateDisk("target0");
    guest().Write(1, Clusters(0, 40));
    operate().Do(mirror);
    AwaitReady();
  }
  // A disk, and a mirror of it to another, with guests that write all the while.
  struct Busy {
    v1::BlockdevMirrorRequest mirror;
    std::unique_ptr<RandomWriter> writer;
  };
  Busy MirrorUnderWrites(v1::MirrorCopyMode mode) {
    Busy busy{Mirror(), nullptr};
    busy.mirror.set_copy_mode(mode);
    if (!Has(busy.mirror)) return busy;
    busy.mirror.set_job_id(absl::StrCat("mirror", mode));
    busy.mirror.set_device(absl::StrCat("disk", mode));
    busy.mirror.set_target(absl::StrCat("target", mode));
    operate().CreateDisk(busy.mirror.device());
    operate().CreateDisk(busy.mirror.target());
    busy.writer = std::make_unique<RandomWriter>(PlaceOf(busy.mirror.device()),
                                                 *ModelOf(busy.mirror.device()), /*seed=*/mode);
    EXPECT_TRUE(busy.writer->WaitForMore(50));
    operate().Do(busy.mirror);
    AwaitReady(busy.mirror.job_id());
    EXPECT_TRUE(busy.writer->WaitForMore(50));
    return busy;
  }
  std::string ExportedNode() {
    for (const auto& info : operate().Exports()) {
      if (info.id() == "guest-disk0") return info.node_name();
    }
    return "";
  }
};

ON_EVERY_BACKEND(MirrorScenarios);

// Guests write all the while: the copy that stays behind is the disk at one instant of its end.
TEST_P(MirrorScenarios, AMirrorCancelledUnderWritesIsTheDiskAtOneInstant) {
  for (const v1::MirrorCopyMode mode :
       {v1::MIRROR_COPY_MODE_BACKGROUND, v1::MIRROR_COPY_MODE_WRITE_BLOCKING}) {
    const auto [mirror, writer] = MirrorUnderWrites(mode);
    if (writer == nullptr) return;
    const RandomWriter::Instant earliest = writer->Answered();
    operate().Do(Cancel(mirror.job_id(), /*force=*/false));
    operate().Finish(mirror.job_id());
    const RandomWriter::Instant latest = writer->Sent();
    ASSERT_TRUE(writer->WaitForMore(20));
    writer->Stop();
    DetachAndCheck({mirror.device(), mirror.target()});
    EXPECT_EQ(writer->Explain(image(mirror.target()).Contents(), earliest, latest), "");
    EXPECT_THAT(image(mirror.device()).Contents(), HoldsSameAs(writer->Model().bytes()));
  }
}

TEST_P(MirrorScenarios, AMirrorCompletedUnderWritesLosesNone) {
  for (const v1::MirrorCopyMode mode :
       {v1::MIRROR_COPY_MODE_BACKGROUND, v1::MIRROR_COPY_MODE_WRITE_BLOCKING}) {
    const auto [mirror, writer] = MirrorUnderWrites(mode);
    if (writer == nullptr) return;
    const RandomWriter::Instant earliest = writer->Answered();
    operate().Do(OfJob<v1::JobCompleteRequest>(mirror.job_id()));
    operate().Finish(mirror.job_id());
    const RandomWriter::Instant latest = writer->Sent();
    ASSERT_TRUE(writer->WaitForMore(50));
    writer->Stop();
    DetachAndCheck({mirror.device(), mirror.target()});
    // What was written before went to the one, what came after to the other.
    EXPECT_THAT(image(mirror.target()).Contents(), HoldsSameAs(writer->Model().bytes()));
    EXPECT_EQ(writer->Explain(image(mirror.device()).Contents(), earliest, latest), "");
  }
}

TEST_P(MirrorScenarios, AMirrorOfNothingIsReadyAtOnceAndCopiesNewWritesOnly) {
  v1::BlockdevMirrorRequest mirror = Mirror();
  mirror.set_sync(kNone);
  if (!Has(mirror)) return;
  StartReady(mirror);
  EXPECT_EQ(operate().BlockJob("mirror0").len(), 0);
  guest().Write(2, Clusters(50, 3));
  operate().Do(Cancel("mirror0", /*force=*/false));
  operate().Finish("mirror0");
  DetachAndCheck({"disk0", "target0"});
  EXPECT_EQ(image("target0").Data(), Merged({Clusters(50, 3)}));
}

TEST_P(MirrorScenarios, AReadyMirrorStandsByWhileItIsPaused) {
  if (!Has(Mirror())) return;
  operate().CreateDisk("disk0");
  operate().CreateDisk("target0");
  guest();
  operate().Do(Mirror());
  AwaitReady();
  operate().Do(OfJob<v1::JobPauseRequest>("mirror0"));
  operate().AwaitStatus("mirror0", v1::JOB_STATUS_STANDBY);
  guest().Write(1, Clusters(3, 4));
  // Taken, and carried out when it goes on.
  operate().Do(OfJob<v1::JobCompleteRequest>("mirror0"));
  EXPECT_EQ(operate().Job("mirror0").status(), v1::JOB_STATUS_STANDBY);
  operate().Do(OfJob<v1::JobResumeRequest>("mirror0"));
  operate().Finish("mirror0");
  EXPECT_EQ(ExportedNode(), "target0");
  DetachAndCheck({"disk0", "target0"});
  EXPECT_THAT(image("target0").Contents(), HoldsSameAs(ModelOf("disk0")->bytes()));
}

// QEMU from 8.0 on would not copy what such a writer writes: the bridge does not let it come there.
TEST_P(MirrorScenarios, AWriterThatComesMeanwhileIsCopiedOrRefused) {
  if (!Has(Mirror())) return;
  operate().CreateDisk("disk0");
  operate().CreateDisk("target0");
  operate().StartNbd();
  const auto model = ModelOf("disk0");
  operate().Do(Mirror());
  AwaitReady();
  const auto late = ExportAdd("guest-disk0", "disk0", /*writable=*/true);
  if (operate().Try(late).ok()) {
    operate().RemoveExport("guest-disk0");
    guest().Write(1, Clusters(3, 4));
  } else {
    ExpectRefused(late, v1::ERROR_REASON_NODE_BUSY, {"disk0"});
  }
  operate().Do(OfJob<v1::JobCompleteRequest>("mirror0"));
  operate().Finish("mirror0");
  DetachAndCheck({"disk0", "target0"});
  EXPECT_THAT(image("target0").Contents(), HoldsSameAs(model->bytes()));
}

TEST_P(MirrorScenarios, AMirrorThatIsKilledLeavesTheGuestWhereItIs) {
  if (!Has(Mirror())) return;
  StartReady(Mirror());
  operate().CancelAndAwait("mirror0");
  EXPECT_EQ(ExportedNode(), "disk0");
  guest().Write(2, Clusters(30, 20));
  DetachAndCheck({"disk0", "target0"});
  EXPECT_THAT(image("disk0").Contents(), HoldsSameAs(ModelOf("disk0")->bytes()));
}

TEST_P(MirrorScenarios, ItsNodesAreItsOwnWhileItRuns) {
  if (!Has(Mirror())) return;
  for (const char* node : {"disk0", "target0", "other"}) operate().CreateDisk(node);
  operate().Do(Mirror());
  AwaitReady();
  v1::BlockdevMirrorRequest second = Mirror();
  second.set_job_id("mirror1");
  second.set_target("other");
  ExpectRefused(second, v1::ERROR_REASON_NODE_BUSY, {"disk0"});
  second.set_device("other");
  second.set_target("target0");
  ExpectRefused(second, v1::ERROR_REASON_NODE_BUSY, {"target0"});
  ExpectRefused(Del("target0"), v1::ERROR_REASON_NODE_BUSY, {"target0"});
  operate().CancelAndAwait("mirror0");
}

TEST_P(MirrorScenarios, ACompletedMirrorMovesTheGuestToTheTarget) {
  if (!Has(Mirror())) return;
  StartReady(Mirror());
  guest().Write(2, Clusters(30, 20));
  EXPECT_EQ(operate().Job("mirror0").type(), v1::JOB_TYPE_MIRROR);
  EXPECT_THAT(operate().Job("mirror0").node_names(), ElementsAre("disk0", "target0"));
  operate().Do(OfJob<v1::JobCompleteRequest>("mirror0"));
  operate().Finish("mirror0");
  EXPECT_EQ(operate().StoryOf("mirror0"), (Story{"created", "running", "ready", "READY", "waiting",
                                                 "pending", "COMPLETED", "concluded", "null"}));
  EXPECT_EQ(ExportedNode(), "target0");
  guest().Write(3, Clusters(60, 5));
  EXPECT_THAT(guest().ReadAll(), HoldsSameAs(guest().model().bytes()));
  DetachAndCheck({"disk0", "target0"});
  EXPECT_THAT(image("target0").Contents(), HoldsSameAs(ModelOf("disk0")->bytes()));
}

TEST_P(MirrorScenarios, AReadyMirrorCancelledWithoutForceLeavesATrueCopy) {
  if (!Has(Mirror())) return;
  StartReady(Mirror());
  guest().Write(2, Clusters(30, 20));
  const std::string copied = guest().model().bytes();
  operate().Do(Cancel("mirror0", /*force=*/false));
  operate().Finish("mirror0");
  EXPECT_EQ(ExportedNode(), "disk0");
  guest().Write(3, Clusters(60, 5));
  DetachAndCheck({"disk0", "target0"});
  EXPECT_THAT(image("target0").Contents(), HoldsSameAs(copied));
}

TEST_P(MirrorScenarios, AMirrorOfTheTopCopiesTheTopImageOnly) {
  v1::BlockdevMirrorRequest mirror = Mirror();
  mirror.set_sync(kTop);
  if (!Has(mirror)) return;
  operate().CreateDisk("base");
  operate().Detach("base");
  Image::Create(operate().FileOf("disk0"), kDiskBytes);
  image("disk0").Over(image("base"));
  operate().Attach("disk0");
  operate().CreateDisk("target0");
  guest().Write(1, Clusters(7, 3));
  operate().Do(mirror);
  AwaitReady();
  operate().Do(OfJob<v1::BlockJobCompleteRequest>("mirror0"));
  operate().Finish("mirror0");
  DetachAndCheck({"disk0", "target0"});
  EXPECT_EQ(image("target0").Data(), Merged({Clusters(7, 3)}));
}

TEST_P(MirrorScenarios, DisksOfTwoSizesAreTheJobsError) {
  if (!Has(Mirror())) return;
  operate().CreateDisk("disk0");
  operate().CreateDisk("target0", 2 * kDiskBytes);
  operate().Do(Mirror());
  operate().AwaitEnd("mirror0");
  EXPECT_EQ(operate().Job("mirror0").outcome(), v1::JOB_OUTCOME_FAILED);
  EXPECT_EQ(operate().Job("mirror0").error_reason(), v1::ERROR_REASON_SIZE_MISMATCH);
}

TEST_P(MirrorScenarios, RefusalsNameWhatIsWrong) {
  if (!Has(Mirror())) return;
  operate().CreateDisk("disk0");
  ExpectRefused(Mirror(), v1::ERROR_REASON_NODE_NOT_FOUND, {"target0"});
  operate().CreateDisk("target0");
  v1::BlockdevMirrorRequest itself = Mirror();
  itself.set_target("disk0");
  EXPECT_FALSE(operate().Try(itself).ok());
  v1::BlockdevMirrorRequest odd = Mirror();
  odd.set_granularity(1000);
  ExpectRefused(odd, v1::ERROR_REASON_INVALID_FIELD, {"granularity"});
}

TEST_P(MirrorScenarios, ABlockJobBecomesWriteBlocking) {
  const auto change = Parse<v1::BlockJobChangeRequest>(
      "id: 'mirror0' mirror { copy_mode: MIRROR_COPY_MODE_WRITE_BLOCKING }");
  if (!Has(Mirror())) return;
  StartReady(Mirror());
  if (Has(change)) {
    operate().Do(change);
    guest().Write(2, Clusters(50, 4));
    // Background copies under way come to their end.
    const absl::Time deadline = absl::Now() + absl::Seconds(40);
    while (!operate().BlockJob("mirror0").actively_synced() && absl::Now() < deadline) {
      absl::SleepFor(absl::Milliseconds(5));
    }
    EXPECT_TRUE(operate().BlockJob("mirror0").actively_synced());
  }
  operate().Do(OfJob<v1::JobCompleteRequest>("mirror0"));
  operate().Finish("mirror0");
}

TEST_P(MirrorScenarios, ADriveMirrorCreatesItsTarget) {
  auto mirror = Parse<v1::DriveMirrorRequest>(
      "job_id: 'mirror0' device: 'disk0' format: 'qcow2' node_name: 'copy0' "
      "sync: MIRROR_SYNC_MODE_FULL");
  mirror.set_target(operate().FileOf("copy0"));
  if (!Has(mirror)) return;
  operate().CreateDisk("disk0");
  guest().Write(1, Clusters(0, 40));
  operate().Do(mirror);
  AwaitReady();
  EXPECT_TRUE(operate().HasNode("copy0"));
  operate().Do(Cancel("mirror0", /*force=*/false));
  operate().Finish("mirror0");
  EXPECT_FALSE(operate().HasNode("copy0"));
  DetachAndCheck({"disk0"});
  EXPECT_EQ(image("disk0").DifferenceFrom(image("copy0")), "");
}

}  // namespace
}  // namespace tidemark::test
