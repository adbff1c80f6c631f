// Mirrors: they catch up, follow the guest, and end with its disk in another place or not.
#include "absl/time/clock.h"
#include "tests/conformance/some_engines.h"

namespace tidemark::test {
namespace {

class MirrorScenarios : public SomeEngines {
 protected:
  v1::BlockdevMirrorRequest Mirror() {
    return Parse<v1::BlockdevMirrorRequest>(
        "job_id: 'mirror0' device: 'disk0' target: 'target0' sync: MIRROR_SYNC_MODE_FULL");
  }
  void AwaitReady() {
    EXPECT_TRUE(events().WaitForKind("mirror0", v1::EVENT_KIND_BLOCK_JOB_READY));
  }
  std::string ExportedNode() {
    for (const auto& info : operate().Exports()) {
      if (info.id() == "guest-disk0") return info.node_name();
    }
    return "";
  }
};

ON_EVERY_BACKEND(MirrorScenarios);

TEST_P(MirrorScenarios, ACompletedMirrorMovesTheGuestToTheTarget) {
  if (!Has(Mirror())) return;
  operate().CreateDisk("disk0");
  operate().CreateDisk("target0");
  guest().Write(1, Clusters(0, 40));
  operate().Do(Mirror());
  AwaitReady();
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
  operate().CreateDisk("disk0");
  operate().CreateDisk("target0");
  guest().Write(1, Clusters(0, 40));
  operate().Do(Mirror());
  AwaitReady();
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
  operate().CreateDisk("disk0");
  operate().CreateDisk("target0");
  guest().Write(1, Clusters(0, 40));
  operate().Do(Mirror());
  AwaitReady();
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
