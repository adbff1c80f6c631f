// Jobs: the order of their events, the verbs that each state takes, speed, and what is told of
// them.
#include "absl/time/clock.h"
#include "tests/conformance/conformance.h"

namespace tidemark::test {
namespace {

class JobScenarios : public Conformance {
 protected:
  void SetUp() override {
    Conformance::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    CreateFullDisk();
    operate().CreateDisk("target0");
  }

  // Every verb of both families that `state` does not take is refused, naming job and state.
  void ExpectRefusedVerbs(const std::string& state, bool cancel, bool set_speed, bool finalize,
                          bool dismiss) {
    SCOPED_TRACE(state);
    const Mentions mentions = {"job0"};
    constexpr auto kState = v1::ERROR_REASON_JOB_STATE;
    if (!cancel) {
      ExpectRefused(OfJob<v1::JobCancelRequest>("job0"), kState, mentions);
      ExpectRefused(Cancel("job0", false), kState, mentions);
      ExpectRefused(Cancel("job0", true), kState, mentions);
    }
    if (!set_speed) ExpectRefused(SetSpeed("job0", 7), kState, mentions);
    if (!finalize) {
      ExpectRefused(OfJob<v1::JobFinalizeRequest>("job0"), kState, mentions);
      ExpectRefused(OfJob<v1::BlockJobFinalizeRequest>("job0"), kState, mentions);
    }
    if (!dismiss) {
      ExpectRefused(OfJob<v1::JobDismissRequest>("job0"), kState, mentions);
      ExpectRefused(OfJob<v1::BlockJobDismissRequest>("job0"), kState, mentions);
    }
    // A backup is never ready, and nobody has paused it.
    ExpectRefused(OfJob<v1::JobCompleteRequest>("job0"), kState, mentions);
    ExpectRefused(OfJob<v1::BlockJobCompleteRequest>("job0"), kState, mentions);
  }
};

TEST_P(JobScenarios, SuccessGoesThroughEveryState) {
  const uint64_t before = operate().Do(Backup({})).event_sequence();
  operate().AwaitEnd("job0");
  EXPECT_EQ(operate().StoryOf("job0"), Success());
  for (const v1::Event& event : events().events()) EXPECT_GT(event.sequence(), before);
}

TEST_P(JobScenarios, TheCompletedEventTellsWhatWasDone) {
  operate().Do(Backup({.speed = 64 * static_cast<int64_t>(kMiB)}));
  operate().AwaitEnd("job0");
  for (const v1::Event& event : events().events()) {
    if (!event.has_block_job_completed()) continue;
    EXPECT_EQ(event.block_job_completed().type(), v1::JOB_TYPE_BACKUP);
    EXPECT_EQ(event.block_job_completed().len(), static_cast<int64_t>(kDiskBytes));
    EXPECT_EQ(event.block_job_completed().offset(), static_cast<int64_t>(kDiskBytes));
    EXPECT_EQ(event.block_job_completed().speed(), 64 * static_cast<int64_t>(kMiB));
    return;
  }
  FAIL() << "no BLOCK_JOB_COMPLETED";
}

TEST_P(JobScenarios, CancellationGoesThroughAborting) {
  operate().Do(Backup({.speed = kHold, .auto_dismiss = false}));
  operate().Do(OfJob<v1::JobCancelRequest>("job0"));
  operate().AwaitStatus("job0", v1::JOB_STATUS_CONCLUDED);
  EXPECT_THAT(operate().QueriedJob("job0").error(), ::testing::HasSubstr("cancel"));
  operate().Do(OfJob<v1::JobDismissRequest>("job0"));
  operate().AwaitEnd("job0");
  EXPECT_EQ(operate().StoryOf("job0"), Cancelled());
  EXPECT_EQ(operate().Job("job0").outcome(), v1::JOB_OUTCOME_CANCELLED);
}

TEST_P(JobScenarios, BlockJobCancelEndsARunningBackupToo) {
  operate().Do(Backup({.speed = kHold}));
  operate().Do(Cancel("job0", /*force=*/false));
  operate().AwaitEnd("job0");
  EXPECT_EQ(operate().StoryOf("job0"), Cancelled());
}

TEST_P(JobScenarios, AManualJobWaitsForFinalizeAndForDismiss) {
  operate().Do(Backup({.auto_finalize = false, .auto_dismiss = false}));
  EXPECT_TRUE(events().WaitForKind("job0", v1::EVENT_KIND_BLOCK_JOB_PENDING));
  const v1::BlockJobInfo pending = operate().BlockJob("job0");
  EXPECT_EQ(pending.status(), v1::JOB_STATUS_PENDING);
  EXPECT_FALSE(pending.auto_finalize());
  EXPECT_FALSE(pending.auto_dismiss());
  // A pending job holds its nodes; a concluded one does not.
  ExpectRefused(Del("target0"), v1::ERROR_REASON_NODE_BUSY, {"target0"});
  operate().Do(OfJob<v1::JobFinalizeRequest>("job0"));
  operate().AwaitStatus("job0", v1::JOB_STATUS_CONCLUDED);
  operate().Detach("target0");
  EXPECT_EQ(operate().QueriedJob("job0").status(), v1::JOB_STATUS_CONCLUDED);
  EXPECT_EQ(operate().QueriedJob("job0").error(), "");
  operate().Do(OfJob<v1::JobDismissRequest>("job0"));
  operate().AwaitEnd("job0");
  EXPECT_EQ(operate().StoryOf("job0"), (Story{"created", "running", "waiting", "pending", "PENDING",
                                              "COMPLETED", "concluded", "null"}));
  EXPECT_EQ(operate().QueriedJob("job0").id(), "");
}

TEST_P(JobScenarios, TheBlockJobFamilyFinalizesAndDismissesToo) {
  operate().Do(Backup({.auto_finalize = false, .auto_dismiss = false}));
  operate().AwaitStatus("job0", v1::JOB_STATUS_PENDING);
  operate().Do(OfJob<v1::BlockJobFinalizeRequest>("job0"));
  operate().AwaitStatus("job0", v1::JOB_STATUS_CONCLUDED);
  operate().Do(OfJob<v1::BlockJobDismissRequest>("job0"));
  operate().Finish("job0");
}

TEST_P(JobScenarios, AFailedJobNeverWaitsToBeFinalized) {
  Image::Create(folder().File("cramped.qcow2"), kDiskBytes);
  operate().Do(Add(CrampedOptions("cramped", folder().File("cramped.qcow2"), kMiB)));
  operate().Do(Backup({.target = "cramped", .auto_finalize = false, .auto_dismiss = false}));
  operate().AwaitStatus("job0", v1::JOB_STATUS_CONCLUDED);
  EXPECT_THAT(operate().QueriedJob("job0").error(), ::testing::HasSubstr("space"));
  EXPECT_THAT(operate().BlockJob("job0").error(), ::testing::HasSubstr("space"));
  operate().Do(OfJob<v1::JobDismissRequest>("job0"));
  operate().AwaitEnd("job0");
  Story story = operate().StoryOf("job0");
  std::erase(story, "ERROR(write, report)");
  EXPECT_EQ(story, Failure());
  EXPECT_GE(events().ErrorsOf("job0"), 1u);
}

TEST_P(JobScenarios, VerbsOfARunningJob) {
  operate().Do(Backup({.speed = kHold}));
  ExpectRefusedVerbs("running", /*cancel=*/true, /*set_speed=*/true, false, false);
  ExpectRefused(OfJob<v1::JobResumeRequest>("job0"), v1::ERROR_REASON_JOB_STATE, {"job0"});
  ExpectRefused(OfJob<v1::BlockJobResumeRequest>("job0"), v1::ERROR_REASON_JOB_STATE, {"job0"});
  operate().CancelAndAwait("job0");
}

TEST_P(JobScenarios, VerbsOfAPausedJob) {
  operate().Do(Backup({.speed = kHold}));
  operate().Do(OfJob<v1::JobPauseRequest>("job0"));
  operate().AwaitStatus("job0", v1::JOB_STATUS_PAUSED);
  ExpectRefusedVerbs("paused", /*cancel=*/true, /*set_speed=*/true, false, false);
  ExpectRefused(OfJob<v1::JobPauseRequest>("job0"), v1::ERROR_REASON_JOB_STATE, {"job0"});
  ExpectRefused(OfJob<v1::BlockJobPauseRequest>("job0"), v1::ERROR_REASON_JOB_STATE, {"job0"});
  // The graceful cancel is refused while paused; the forced one is not.
  ExpectRefused(Cancel("job0", false), v1::ERROR_REASON_JOB_STATE, {"job0"});
  operate().Do(Cancel("job0", true));
  operate().AwaitEnd("job0");
  EXPECT_EQ(operate().StoryOf("job0").back(), "null");
  EXPECT_EQ(operate().Job("job0").outcome(), v1::JOB_OUTCOME_CANCELLED);
}

TEST_P(JobScenarios, VerbsOfAPendingJob) {
  operate().Do(Backup({.auto_finalize = false}));
  operate().AwaitStatus("job0", v1::JOB_STATUS_PENDING);
  ExpectRefusedVerbs("pending", /*cancel=*/true, false, /*finalize=*/true, false);
  ExpectRefused(OfJob<v1::JobPauseRequest>("job0"), v1::ERROR_REASON_JOB_STATE, {"job0"});
  ExpectRefused(OfJob<v1::JobResumeRequest>("job0"), v1::ERROR_REASON_JOB_STATE, {"job0"});
  operate().CancelAndAwait("job0");
}

TEST_P(JobScenarios, VerbsOfAConcludedJob) {
  operate().Do(Backup({.auto_dismiss = false}));
  operate().AwaitStatus("job0", v1::JOB_STATUS_CONCLUDED);
  ExpectRefusedVerbs("concluded", false, false, false, /*dismiss=*/true);
  ExpectRefused(OfJob<v1::JobPauseRequest>("job0"), v1::ERROR_REASON_JOB_STATE, {"job0"});
  ExpectRefused(OfJob<v1::JobResumeRequest>("job0"), v1::ERROR_REASON_JOB_STATE, {"job0"});
  operate().Do(OfJob<v1::JobDismissRequest>("job0"));
}

TEST_P(JobScenarios, ARefusedVerbNamesStateAndVerb) {
  operate().Do(Backup({.speed = kHold}));
  const auto reply = operate().Try(OfJob<v1::JobFinalizeRequest>("job0"));
  ASSERT_THAT(reply,
              Refused(v1::ERROR_REASON_JOB_STATE, (Mentions{"job0", "running", "finalize"})));
  EXPECT_EQ(reply.refusal.metadata.at("state"), "running");
  EXPECT_EQ(reply.refusal.metadata.at("verb"), "finalize");
  EXPECT_EQ(reply.refusal.metadata.at("job"), "job0");
  operate().CancelAndAwait("job0");
}

TEST_P(JobScenarios, UnknownJobsAreRefusedByBothFamilies) {
  const Mentions mentions = {"job9"};
  constexpr auto kUnknown = v1::ERROR_REASON_JOB_NOT_FOUND;
  ExpectRefused(OfJob<v1::JobPauseRequest>("job9"), kUnknown, mentions);
  ExpectRefused(OfJob<v1::JobResumeRequest>("job9"), kUnknown, mentions);
  ExpectRefused(OfJob<v1::JobCancelRequest>("job9"), kUnknown, mentions);
  ExpectRefused(OfJob<v1::JobCompleteRequest>("job9"), kUnknown, mentions);
  ExpectRefused(OfJob<v1::JobFinalizeRequest>("job9"), kUnknown, mentions);
  ExpectRefused(OfJob<v1::JobDismissRequest>("job9"), kUnknown, mentions);
  ExpectRefused(OfJob<v1::BlockJobPauseRequest>("job9"), kUnknown, mentions);
  ExpectRefused(OfJob<v1::BlockJobResumeRequest>("job9"), kUnknown, mentions);
  ExpectRefused(OfJob<v1::BlockJobCancelRequest>("job9"), kUnknown, mentions);
  ExpectRefused(OfJob<v1::BlockJobCompleteRequest>("job9"), kUnknown, mentions);
  ExpectRefused(OfJob<v1::BlockJobFinalizeRequest>("job9"), kUnknown, mentions);
  ExpectRefused(OfJob<v1::BlockJobDismissRequest>("job9"), kUnknown, mentions);
  ExpectRefused(SetSpeed("job9", 1), kUnknown, mentions);
  ExpectRefused(OfJob<v1::GetJobRequest>("job9"), kUnknown, mentions);
  ExpectRefused(OfJob<v1::WaitJobRequest>("job9"), kUnknown, mentions);
  EXPECT_EQ(operate().Try(OfJob<v1::JobPauseRequest>("job9")).refusal.metadata["qmp_class"],
            "GenericError");
  EXPECT_EQ(operate().Try(OfJob<v1::BlockJobPauseRequest>("job9")).refusal.metadata["qmp_class"],
            "DeviceNotActive");
}

TEST_P(JobScenarios, AnUnknownJobCannotBeChanged) {
  v1::BlockJobChangeRequest change = OfJob<v1::BlockJobChangeRequest>("job9");
  change.mutable_mirror()->set_copy_mode(v1::MIRROR_COPY_MODE_WRITE_BLOCKING);
  ExpectRefused(change, v1::ERROR_REASON_JOB_NOT_FOUND, {"job9"});
}

TEST_P(JobScenarios, ABackupCannotBeChangedIntoAnotherKindOfCopy) {
  operate().Do(Backup({.speed = kHold}));
  v1::BlockJobChangeRequest change = OfJob<v1::BlockJobChangeRequest>("job0");
  change.mutable_mirror()->set_copy_mode(v1::MIRROR_COPY_MODE_WRITE_BLOCKING);
  ExpectRefused(change, v1::ERROR_REASON_FEATURE_UNSUPPORTED, {"job0"});
  operate().CancelAndAwait("job0");
}

TEST_P(JobScenarios, PauseAndResumeOfBothFamiliesMix) {
  operate().Do(Backup({.speed = kHold}));
  operate().Do(OfJob<v1::JobPauseRequest>("job0"));
  operate().AwaitStatus("job0", v1::JOB_STATUS_PAUSED);
  EXPECT_TRUE(operate().BlockJob("job0").paused());
  EXPECT_EQ(operate().BlockJob("job0").status(), v1::JOB_STATUS_PAUSED);
  operate().Do(OfJob<v1::BlockJobResumeRequest>("job0"));
  EXPECT_TRUE(events().WaitForStatusTimes("job0", v1::JOB_STATUS_RUNNING, 2));
  operate().Do(OfJob<v1::BlockJobPauseRequest>("job0"));
  EXPECT_TRUE(events().WaitForStatusTimes("job0", v1::JOB_STATUS_PAUSED, 2));
  // The speed may change while it is paused; that does not resume it.
  operate().Do(SetSpeed("job0", 0));
  EXPECT_EQ(operate().BlockJob("job0").status(), v1::JOB_STATUS_PAUSED);
  guest().Write(3, Clusters(0, 64));
  operate().Do(OfJob<v1::JobResumeRequest>("job0"));
  operate().Finish("job0");
  DetachAndCheck({"disk0", "target0"});
  ByteModel full(kDiskBytes);
  full.Write(1, {0, kDiskBytes});
  EXPECT_THAT(image("target0").Contents(), HoldsSameAs(full.bytes()));
}

TEST_P(JobScenarios, CancellingAPausedJobPassesThroughRunning) {
  operate().Do(Backup({.speed = kHold}));
  operate().Do(OfJob<v1::JobPauseRequest>("job0"));
  operate().AwaitStatus("job0", v1::JOB_STATUS_PAUSED);
  operate().CancelAndAwait("job0");
  EXPECT_EQ(operate().StoryOf("job0"), Cancelled());
}

TEST_P(JobScenarios, SetSpeedWakesAHeldJob) {
  operate().Do(Backup({.speed = kHold}));
  EXPECT_EQ(operate().BlockJob("job0").speed(), kHold);
  operate().Do(SetSpeed("job0", 1000));
  EXPECT_EQ(operate().BlockJob("job0").speed(), 1000);
  ExpectRefused(SetSpeed("job0", -5), v1::ERROR_REASON_INVALID_FIELD, {"speed", "-5"});
  operate().ReleaseAndFinish("job0");
}

TEST_P(JobScenarios, AHeldJobMovesLittle) {
  operate().CreateDisk("target1");
  operate().Do(Backup({.speed = kHold}));
  // There was time for the whole copy: another one, which nothing holds, has been made meanwhile.
  operate().Do(Backup({.job = "free", .target = "target1"}));
  operate().Finish("free");
  const v1::BlockJobInfo info = operate().BlockJob("job0");
  EXPECT_EQ(info.len(), static_cast<int64_t>(kDiskBytes));
  EXPECT_LE(info.offset(), static_cast<int64_t>(kDiskBytes / 2));
  EXPECT_EQ(info.type(), v1::JOB_TYPE_BACKUP);
  EXPECT_EQ(info.io_status(), v1::BLOCK_DEVICE_IO_STATUS_OK);
  EXPECT_FALSE(info.ready());
  EXPECT_TRUE(info.auto_finalize());
  EXPECT_TRUE(info.auto_dismiss());
  EXPECT_FALSE(info.has_actively_synced());
  operate().CancelAndAwait("job0");
}

TEST_P(JobScenarios, QueriesListNewestFirst) {
  operate().CreateDisk("target1");
  operate().Do(Backup({.job = "older", .speed = kHold}));
  operate().Do(Backup({.job = "newer", .target = "target1", .speed = kHold}));
  std::vector<std::string> ids;
  for (const auto& job : operate().Jobs()) ids.push_back(job.id());
  EXPECT_THAT(ids, ElementsAre("newer", "older"));
  ids.clear();
  for (const auto& job : operate().BlockJobs()) {
    ids.push_back(job.device());
  }
  EXPECT_THAT(ids, ElementsAre("newer", "older"));
  operate().CancelAndAwait("older");
  operate().CancelAndAwait("newer");
}

TEST_P(JobScenarios, ACreateJobIsNoBlockJob) {
  v1::BlockdevCreateRequest create;
  create.set_job_id("make");
  create.mutable_options()->mutable_file()->set_filename(folder().File("made"));
  create.mutable_options()->mutable_file()->set_size(kMiB);
  operate().Do(create);
  operate().AwaitStatus("make", v1::JOB_STATUS_CONCLUDED);
  EXPECT_EQ(operate().BlockJob("make").device(), "");
  EXPECT_EQ(operate().QueriedJob("make").type(), v1::JOB_TYPE_CREATE);
  ExpectRefused(OfJob<v1::BlockJobDismissRequest>("make"), v1::ERROR_REASON_JOB_NOT_FOUND,
                {"make"});
  operate().Do(OfJob<v1::JobDismissRequest>("make"));
  operate().AwaitEnd("make");
  EXPECT_EQ(operate().StoryOf("make"),
            (Story{"created", "running", "waiting", "pending", "concluded", "null"}));
}

ON_EVERY_BACKEND(JobScenarios);

}  // namespace
}  // namespace tidemark::test
