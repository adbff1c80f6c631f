// What the service has told is true also for the process that comes after it: a client that acted
// on a result must not hear later that there was another.
#include <signal.h>
#include <sqlite3.h>
#include <sys/resource.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/conformance/requests.h"
#include "tests/support/client.h"
#include "tests/support/daemon.h"
#include "tests/support/temp_folder.h"

namespace tidemark::test {
namespace {

constexpr int kRounds = 12;

class ToldTest : public ::testing::Test {
 protected:
  void Start() {
    daemon_ = std::make_unique<Daemon>(&folder_);
    ASSERT_TRUE(daemon_->started()) << daemon_->Log();
    client_ = std::make_unique<Client>(daemon_->address());
  }
  void KillAndStart() {
    client_ = nullptr;
    daemon_->Kill();
    Start();
  }
  void AddDisks(int64_t bytes = 1 << 20) {
    ASSERT_TRUE(client_->Invoke(Add(NullOptions("disk0", bytes))).ok());
    ASSERT_TRUE(client_->Invoke(Add(NullOptions("target0", bytes))).ok());
  }
  v1::Job RunJob(const std::string& id) {
    const auto started = client_->Invoke(Backup({.job = id}));
    EXPECT_TRUE(started.ok()) << started.refusal;
    v1::WaitJobRequest wait;
    wait.set_id(id);
    const auto waited = client_->Invoke(wait);
    EXPECT_TRUE(waited.ok()) << waited.refusal;
    return waited->job();
  }
  v1::Job GetJob(const std::string& id) {
    v1::GetJobRequest request;
    request.set_id(id);
    const auto reply = client_->Invoke(request);
    EXPECT_TRUE(reply.ok()) << reply.refusal;
    return reply->job();
  }
  // So many bytes may a file of the daemon have: an end of its disk that comes and goes.
  void LimitFiles(rlim_t bytes) {
    const rlimit limit{bytes, RLIM_INFINITY};
    ASSERT_EQ(prlimit(daemon_->process().pid(), RLIMIT_FSIZE, &limit, nullptr), 0);
  }
  v1::Event WaitForSavingChange(uint64_t after) {
    v1::WatchEventsRequest request;
    request.set_after(after);
    request.add_kinds(v1::EVENT_KIND_STATE_SAVING_CHANGE);
    v1::Event event;
    client_->WatchEvents(request, [&event](const v1::WatchEventsResponse& response) {
      event = response.event();
      return response.has_event();
    });
    return event;
  }

  TempFolder folder_;
  std::unique_ptr<Daemon> daemon_;
  std::unique_ptr<Client> client_;
};

TEST_F(ToldTest, AResultThatAClientWasToldIsNotTakenBackAfterAKill) {
  for (int round = 0; round < kRounds; ++round) {
    // Also the first job of a new folder.
    if (round % 2 == 0) {
      ASSERT_EQ(system(("rm -rf " + folder_.File("state")).c_str()), 0);
    }
    Start();
    AddDisks();
    const std::string id = absl::StrCat("job", round);
    ASSERT_EQ(RunJob(id).outcome(), v1::JOB_OUTCOME_SUCCEEDED);
    KillAndStart();
    EXPECT_EQ(GetJob(id).outcome(), v1::JOB_OUTCOME_SUCCEEDED) << "round " << round;
    daemon_->Kill();
  }
}

// Another program holds the database: nothing can be saved until it lets go.
TEST_F(ToldTest, AResultThatIsNotSavedIsNotToldAsIfItWere) {
  Start();
  AddDisks();
  sqlite3* database = nullptr;
  ASSERT_EQ(sqlite3_open(folder_.File("state/tidemark.db").c_str(), &database), SQLITE_OK);
  // The daemon may be saving something just now.
  sqlite3_busy_timeout(database, 60'000);
  ASSERT_EQ(sqlite3_exec(database, "BEGIN IMMEDIATE", nullptr, nullptr, nullptr), SQLITE_OK);
  const v1::Job told = RunJob("job0");
  EXPECT_EQ(told.outcome(), v1::JOB_OUTCOME_SUCCEEDED);
  EXPECT_TRUE(told.unsaved());
  daemon_->Kill();
  sqlite3_close(database);
  Start();
  v1::GetJobRequest request;
  request.set_id("job0");
  EXPECT_EQ(client_->Invoke(request).refusal.reason, "JOB_NOT_FOUND") << "as it was marked";
}

// Whatever a reply says has happened, the next process knows.
TEST_F(ToldTest, AJobWhoseStartWasAnsweredIsKnownAfterAKill) {
  for (int round = 0; round < kRounds; ++round) {
    Start();
    AddDisks(int64_t{1} << 34);
    const std::string id = absl::StrCat("job", round);
    ASSERT_TRUE(client_->Invoke(Backup({.job = id, .speed = 1})).ok());
    KillAndStart();
    EXPECT_EQ(GetJob(id).outcome(), v1::JOB_OUTCOME_FAILED) << "round " << round;
    daemon_->Kill();
  }
}

TEST_F(ToldTest, AFullStateDiskIsToldAndWhatItCannotKeepIsMarked) {
  Start();
  AddDisks();
  const auto before = client_->Invoke(v1::GetCapabilitiesRequest());
  EXPECT_TRUE(before->state_folder().present());
  EXPECT_EQ(before->state_folder().error(), "");
  LimitFiles(1);
  const v1::Job told = RunJob("job0");
  EXPECT_EQ(told.outcome(), v1::JOB_OUTCOME_SUCCEEDED);
  EXPECT_TRUE(told.unsaved());
  EXPECT_TRUE(GetJob("job0").unsaved());
  EXPECT_NE(client_->Invoke(v1::GetCapabilitiesRequest())->state_folder().error(), "");
  EXPECT_TRUE(client_->Invoke(Backup({.job = "job1"})).unsaved) << "a reply to a command";
  EXPECT_TRUE(client_->Invoke(v1::QueryJobsRequest()).unsaved);
  EXPECT_TRUE(client_->Invoke(Backup({.job = "job1", .source = "nobody"})).unsaved) << "a refusal";
  const v1::Event full = WaitForSavingChange(0);
  EXPECT_FALSE(full.state_saving_change().saving());
  EXPECT_NE(full.state_saving_change().error(), "");

  LimitFiles(RLIM_INFINITY);
  EXPECT_TRUE(WaitForSavingChange(full.sequence()).state_saving_change().saving());
  EXPECT_FALSE(GetJob("job0").unsaved());
  EXPECT_FALSE(client_->Invoke(v1::QueryJobsRequest()).unsaved);
  EXPECT_EQ(client_->Invoke(v1::GetCapabilitiesRequest())->state_folder().error(), "");
  KillAndStart();
  EXPECT_EQ(GetJob("job0").outcome(), v1::JOB_OUTCOME_SUCCEEDED);
}

// Its words go to a file, too, which may not grow either: the status must do.
TEST_F(ToldTest, AStopThatCannotSaveWhatWasToldIsAFailure) {
  Start();
  AddDisks();
  LimitFiles(1);
  EXPECT_TRUE(RunJob("job0").unsaved());
  client_ = nullptr;
  EXPECT_EQ(daemon_->Stop(), 1);
}

TEST_F(ToldTest, TheLogStaysTheSameAcrossRestartsAndItsPositionsAreNeverZero) {
  Start();
  const auto first = client_->Invoke(v1::GetCapabilitiesRequest());
  EXPECT_EQ(first->log_id().size(), 32u);
  EXPECT_GE(first.sequence, 1u);
  EXPECT_GE(client_->Invoke(Add(NullOptions("disk0", 1 << 20)))->event_sequence(), 1u)
      << "clients of JSON cannot tell 0 from nothing";
  v1::WatchEventsRequest watch;
  watch.set_after(0);
  const auto [responses, refusal] = client_->WatchEvents(watch, 2);
  ASSERT_EQ(responses.size(), 2u) << refusal;
  EXPECT_EQ(responses[0].heartbeat().log_id(), first->log_id());
  EXPECT_EQ(responses[1].event().sequence(), 1u);
  EXPECT_EQ(responses[1].event().service_started().log_id(), first->log_id());
  EXPECT_EQ(responses[1].event().service_started().version(), first->service_version());

  KillAndStart();
  EXPECT_EQ(client_->Invoke(v1::GetCapabilitiesRequest())->log_id(), first->log_id());
  watch.set_after(first.sequence);
  watch.set_log_id(first->log_id());
  EXPECT_EQ(client_->WatchEvents(watch, 2).first.size(), 2u) << "the next SERVICE_STARTED";

  daemon_->Kill();
  ASSERT_EQ(system(("rm -rf " + folder_.File("state")).c_str()), 0);
  Start();
  EXPECT_NE(client_->Invoke(v1::GetCapabilitiesRequest())->log_id(), first->log_id());
  EXPECT_EQ(client_->WatchEvents(watch, 2).second.reason, "FOREIGN_LOG");
}

}  // namespace
}  // namespace tidemark::test
