#include "adapters/store/state_folder.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "adapters/store/state_world.h"
#include "engine/base/error.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark::store {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class StateFolderTest : public StateWorld {};

TEST_F(StateFolderTest, WhatWasSavedIsLoadedByTheNextProcess) {
  {
    const auto state = Open();
    EXPECT_THAT(Load(*state), IsEmpty());
    EXPECT_EQ(state->start_after(), 0u) << "the first log begins with 1";
    EXPECT_TRUE(state->Save({MakeEvent(1), MakeEvent(2)}).ok());
    EXPECT_TRUE(state->Save({MakeEvent(7)}).ok());
  }
  const auto state = Open();
  EXPECT_THAT(Load(*state), ElementsAre(1, 2, 7));
  EXPECT_EQ(state->start_after(), 7 + kRestartGap);
  EXPECT_TRUE(state->Save({MakeEvent(8)}).ok());
  EXPECT_THAT(warnings_, IsEmpty());
}

TEST_F(StateFolderTest, AKilledProcessLosesNothing) {
  const pid_t child = fork();
  if (child == 0) {
    auto state = StateFolder::Open(folder_, SystemClock(), Nobody);
    if (!state.ok() || !(*state)->Load().ok()) _exit(1);
    EXPECT_TRUE((*state)->Save({MakeEvent(1), MakeEvent(2)}).ok());
    if (!(*state)->SaveJob(MakeJob("vm", "j")).ok()) _exit(2);
    if (!(*state)->SaveInstance(MakeInstance("vm")).ok()) _exit(3);
    kill(getpid(), SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status)) << WEXITSTATUS(status);
  const auto state = Open();
  EXPECT_THAT(Load(*state), ElementsAre(1, 2));
  EXPECT_EQ(state->LoadJobs("vm")->size(), 1u);
  EXPECT_EQ(state->LoadInstances()->size(), 1u);
}

TEST_F(StateFolderTest, ItIsBoundedByCountAndKeepsTheNewest) {
  const EventBounds bounds{10, 1 << 20};
  {
    const auto state = Open(bounds);
    Load(*state);
    for (uint64_t i = 1; i <= 100; i += 2)
      EXPECT_TRUE(state->Save({MakeEvent(i), MakeEvent(i + 1)}).ok());
  }
  EXPECT_THAT(Load(*Open(bounds)), ElementsAre(91, 92, 93, 94, 95, 96, 97, 98, 99, 100));
}

TEST_F(StateFolderTest, ItIsBoundedByBytesAndItsFileDoesNotGrow) {
  const EventBounds bounds{1'000'000, 10'000};
  {
    const auto state = Open(bounds);
    Load(*state);
    for (uint64_t i = 1; i <= 2'000; ++i) EXPECT_TRUE(state->Save({MakeEvent(i)}).ok());
  }
  const auto loaded = Load(*Open(bounds));
  ASSERT_GT(loaded.size(), 20u);
  ASSERT_LT(loaded.size(), 200u);
  EXPECT_EQ(loaded.back(), 2'000u);
  EXPECT_EQ(loaded.front(), 2'001 - loaded.size()) << "without holes";
  EXPECT_LE(std::filesystem::file_size(database()), 100'000u);
}

TEST_F(StateFolderTest, ProgressIsNotSaved) {
  {
    const auto state = Open();
    Load(*state);
    auto progress = std::make_shared<backend::Event>();
    progress->set_sequence(1);
    progress->mutable_job_progress()->set_id("j");
    EXPECT_TRUE(state->Save({progress, MakeEvent(2)}).ok());
  }
  EXPECT_THAT(Load(*Open()), ElementsAre(2));
}

TEST_F(StateFolderTest, TwoProcessesDoNotShareAFolder) {
  const auto first = Open();
  const auto second = StateFolder::Open(folder_, SystemClock(), Nobody);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(absl::StrContains(second.status().message(), folder_)) << second.status();
}

TEST_F(StateFolderTest, WhatItHoldsIsForItsOwner) {
  folder_ += "/made";
  const auto state = Open();
  Load(*state);
  EXPECT_TRUE(state->Save({MakeEvent(1)}).ok());
  for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
    struct stat status;
    ASSERT_EQ(stat(entry.path().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0600u) << entry.path();
  }
}

TEST_F(StateFolderTest, AFolderOfANewerVersionIsRefused) {
  Open();
  (*Database::Open(database()))->Run("PRAGMA user_version = 99").IgnoreError();
  const auto state = StateFolder::Open(folder_, SystemClock(), Nobody);
  EXPECT_EQ(state.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(absl::StrContains(state.status().message(), "newer")) << state.status();
}

TEST_F(StateFolderTest, AMissingOrChangedEventIsNeverPassedOver) {
  for (const char* damage : {"DELETE FROM events WHERE sequence = 3",
                             "UPDATE events SET body = x'00' WHERE sequence = 3",
                             "UPDATE events SET checksum = checksum + 1 WHERE sequence = 3"}) {
    std::filesystem::remove_all(folder_);
    {
      const auto state = Open();
      Load(*state);
      for (uint64_t i = 1; i <= 5; ++i) EXPECT_TRUE(state->Save({MakeEvent(i)}).ok());
    }
    ASSERT_TRUE((*Database::Open(database()))->Run(damage).ok());
    EXPECT_THAT(Load(*Open()), ElementsAre(4, 5)) << damage;
  }
}

TEST_F(StateFolderTest, AnEventWhoseEndIsUnknownStillMovesTheSequence) {
  {
    const auto state = Open();
    Load(*state);
    EXPECT_TRUE(state->Save({MakeEvent(1), MakeEvent(2)}).ok());
  }
  ASSERT_TRUE(
      (*Database::Open(database()))->Run("UPDATE events SET body = x'00' WHERE sequence = 2").ok());
  const auto state = Open();
  EXPECT_THAT(Load(*state), IsEmpty());
  EXPECT_EQ(state->start_after(), 2 + kRestartGap);
}

TEST_F(StateFolderTest, AnyDamageLeavesAServiceThatStartsAndSequencesThatAreNotUsedTwice) {
  {
    const auto state = Open();
    Load(*state);
    state->SaveInstance(MakeInstance("vm")).IgnoreError();
    for (uint64_t i = 1; i <= 300; ++i) EXPECT_TRUE(state->Save({MakeEvent(i)}).ok());
  }
  std::ifstream in(database(), std::ios::binary);
  const std::string good((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  ASSERT_GT(good.size(), 10'000u);
  for (size_t at = 0; at < good.size(); at += at < 100 ? 1 : 1'021) {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directory(folder_);
    std::ofstream(folder_ + "/events-are-whole") << "";
    std::string bad = good;
    for (size_t i = at; i < std::min(at + 3, bad.size()); ++i) bad[i] = static_cast<char>(~bad[i]);
    std::ofstream(database(), std::ios::binary) << bad;
    auto state = StateFolder::Open(folder_, SystemClock(), Nobody);
    if (!state.ok()) {
      // The one number that says who wrote it.
      EXPECT_TRUE(absl::StrContains(state.status().message(), "newer")) << at << state.status();
      continue;
    }
    const auto loaded = Load(**state);
    for (size_t i = 0; i < loaded.size(); ++i) {
      ASSERT_EQ(loaded[i], 300 - loaded.size() + 1 + i) << "byte " << at;
    }
    ASSERT_GE((*state)->start_after(), 300u) << "byte " << at;
    EXPECT_TRUE((*state)->Save({MakeEvent((*state)->start_after() + 1)}).ok());
  }
}

TEST_F(StateFolderTest, OfADamagedDatabaseInstancesAndJobsAreTakenOver) {
  {
    const auto state = Open();
    Load(*state);
    ASSERT_TRUE(state->SaveInstance(MakeInstance("vm")).ok());
    ASSERT_TRUE(state->SaveJob(MakeJob("vm", "j")).ok());
    for (uint64_t i = 1; i <= 300; ++i) EXPECT_TRUE(state->Save({MakeEvent(i)}).ok());
  }
  // Its last pages are full of events.
  std::fstream file(database(), std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(-4096, std::ios::end);
  file << std::string(4096, 'x');
  file.close();
  const auto state = Open();
  EXPECT_THAT(warnings_, testing::SizeIs(1));
  EXPECT_THAT(Load(*state), IsEmpty());
  EXPECT_GT(state->start_after(), kAnew);
  EXPECT_EQ(state->LoadInstances()->size(), 1u);
  EXPECT_EQ(state->LoadJobs("vm")->size(), 1u);
  EXPECT_GE(std::distance(std::filesystem::directory_iterator(folder_), {}), 3);
}

TEST_F(StateFolderTest, AFileThatIsNoDatabaseIsMovedAside) {
  std::ofstream(database()) << std::string(10'000, 'x');
  const auto state = Open();
  ASSERT_NE(state, nullptr);
  EXPECT_THAT(warnings_, testing::SizeIs(1));
  EXPECT_GT((Load(*state), state->start_after()), kAnew);
}

TEST_F(StateFolderTest, GivenUpEventsAreNotShownByTheNextProcess) {
  {
    const auto state = Open();
    Load(*state);
    EXPECT_TRUE(state->Save({MakeEvent(1)}).ok());
    state->AddGap();
  }
  uint64_t anew = 0;
  {
    const auto state = Open();
    EXPECT_THAT(Load(*state), IsEmpty());
    anew = state->start_after();
    EXPECT_GT(anew, kAnew);
  }
  // Also when nothing was saved in between.
  const auto state = Open();
  Load(*state);
  EXPECT_GE(state->start_after(), anew);
}

TEST_F(StateFolderTest, AProcessThatSavedNothingHasUsedItsSequencesAllTheSame) {
  {
    const auto state = Open();
    Load(*state);
    EXPECT_EQ(state->start_after(), 0u);
  }
  const auto state = Open();
  Load(*state);
  EXPECT_GE(state->start_after(), kRestartGap);
}

TEST_F(StateFolderTest, AfterEventsWereGivenUpSavingBeginsAnew) {
  {
    const auto state = Open();
    Load(*state);
    EXPECT_TRUE(state->Save({MakeEvent(1)}).ok());
    state->AddGap();
    EXPECT_TRUE(state->Save({MakeEvent(5)}).ok());
    EXPECT_TRUE(state->Save({MakeEvent(6)}).ok());
  }
  EXPECT_THAT(Load(*Open()), ElementsAre(5, 6));
}

// A file that may not grow fails as a full disk does.
TEST_F(StateFolderTest, AFullDiskLosesNothingThatIsSavedAgain) {
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGXFSZ, SIG_IGN);
    auto state = StateFolder::Open(folder_, SystemClock(),
                                   [this](const std::string& text) { warnings_.push_back(text); });
    if (!state.ok() || !(*state)->Load().ok()) _exit(1);
    EXPECT_TRUE((*state)->Save({MakeEvent(1)}).ok());
    const rlimit full{1'000, RLIM_INFINITY};
    setrlimit(RLIMIT_FSIZE, &full);
    if ((*state)->Save({MakeEvent(2)}).ok()) _exit(5);
    const absl::Status refused = (*state)->SaveInstance(MakeInstance("vm"));
    if (refused.ok() || !DetailsOf(refused).has_value()) _exit(2);
    const rlimit free{RLIM_INFINITY, RLIM_INFINITY};
    setrlimit(RLIMIT_FSIZE, &free);
    if (access((folder_ + "/events-are-whole").c_str(), F_OK) == 0) _exit(3);
    if (!(*state)->Save({MakeEvent(2), MakeEvent(3)}).ok()) _exit(6);
    if (!(*state)->SaveInstance(MakeInstance("vm")).ok()) _exit(4);
    _exit(warnings_.size() == 2 ? 0 : 5);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFEXITED(status));
  ASSERT_EQ(WEXITSTATUS(status), 0);
  const auto state = Open();
  EXPECT_THAT(Load(*state), ElementsAre(1, 2, 3));
  EXPECT_EQ(state->LoadInstances()->size(), 1u);
}

TEST_F(StateFolderTest, InstancesAreStoredReplacedAndForgottenWithTheirJobs) {
  const auto state = Open();
  ASSERT_TRUE(state->SaveInstance(MakeInstance("b")).ok());
  ASSERT_TRUE(state->SaveInstance(MakeInstance("a")).ok());
  ASSERT_TRUE(state->SaveInstance(MakeInstance("a")).ok());
  ASSERT_TRUE(state->SaveJob(MakeJob("a", "j")).ok());
  ASSERT_TRUE(state->SaveJob(MakeJob("b", "j")).ok());
  const auto instances = *state->LoadInstances();
  ASSERT_EQ(instances.size(), 2u);
  EXPECT_EQ(instances[0].SerializeAsString(), MakeInstance("a").SerializeAsString());
  EXPECT_TRUE(state->DeleteInstance("a").ok());
  EXPECT_TRUE(state->DeleteInstance("a").ok()) << "what is not there is no error";
  EXPECT_EQ(state->LoadInstances()->size(), 1u);
  EXPECT_THAT(*state->LoadJobs("a"), IsEmpty());
  EXPECT_EQ(state->LoadJobs("b")->size(), 1u);
}

TEST_F(StateFolderTest, ExportsAreStoredReplacedAndForgotten) {
  v1::BlockExportInfo info;
  info.set_id("e1");
  {
    const auto state = Open();
    ASSERT_TRUE(state->SaveExport("vm", info).ok());
    info.set_node_name("disk0");
    ASSERT_TRUE(state->SaveExport("vm", info).ok());
    info.set_id("e2");
    ASSERT_TRUE(state->SaveExport("vm", info).ok());
    ASSERT_TRUE(state->DeleteExport("vm", "e2").ok());
    ASSERT_TRUE(state->DeleteExport("vm", "e2").ok());
    ASSERT_TRUE(state->SaveExport("other", info).ok());
    ASSERT_TRUE(state->DeleteInstance("other").ok());
  }
  const auto state = Open();
  const auto exports = *state->LoadExports("vm");
  ASSERT_EQ(exports.size(), 1u);
  EXPECT_EQ(exports[0].node_name(), "disk0");
  EXPECT_THAT(*state->LoadExports("other"), IsEmpty());
}

TEST_F(StateFolderTest, InstancesThatOnlyJobsOrExportsNameAreKnown) {
  const auto state = Open();
  ASSERT_TRUE(state->SaveInstance(MakeInstance("stored")).ok());
  ASSERT_TRUE(state->SaveJob(MakeJob("stored", "j")).ok());
  ASSERT_TRUE(state->SaveJob(MakeJob("of-jobs", "j1")).ok());
  ASSERT_TRUE(state->SaveJob(MakeJob("of-jobs", "j2")).ok());
  ASSERT_TRUE(state->SaveExport("of-exports", v1::BlockExportInfo()).ok());
  EXPECT_THAT(*state->LoadOtherInstanceIds(), ElementsAre("of-exports", "of-jobs"));
}

TEST_F(StateFolderTest, JobsAreStoredReplacedAndForgotten) {
  {
    const auto state = Open();
    ASSERT_TRUE(state->SaveJob(MakeJob("vm", "j1", 1)).ok());
    ASSERT_TRUE(state->SaveJob(MakeJob("vm", "j1", 2)).ok());
    ASSERT_TRUE(state->SaveJob(MakeJob("vm", "j2")).ok());
    ASSERT_TRUE(state->DeleteJob("vm", "j2").ok());
    ASSERT_TRUE(state->DeleteJob("vm", "j2").ok());
  }
  const auto jobs = *Open()->LoadJobs("vm");
  ASSERT_EQ(jobs.size(), 1u);
  EXPECT_EQ(jobs[0].total_bytes(), 2);
}

}  // namespace
}  // namespace tidemark::store
