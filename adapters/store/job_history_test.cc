// What the state folder knows of jobs: results outlive their events, and the process.
#include <filesystem>

#include "adapters/store/state_world.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark::store {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

EventPtr Change(uint64_t sequence, const std::string& job, v1::JobStatus status,
                const std::string& instance = "") {
  auto event = std::make_shared<backend::Event>();
  event->set_sequence(sequence);
  event->set_instance(instance);
  event->mutable_job_status_change()->set_id(job);
  event->mutable_job_status_change()->set_status(status);
  return event;
}

EventPtr Completed(uint64_t sequence, const std::string& job) {
  auto event = std::make_shared<backend::Event>();
  event->set_sequence(sequence);
  event->mutable_block_job_completed()->set_device(job);
  event->mutable_block_job_completed()->set_len(800);
  event->mutable_block_job_completed()->set_offset(800);
  return event;
}

class JobHistoryTest : public StateWorld {
 protected:
  // "vm1/j SUCCEEDED NULL" for each job that a process which starts now knows, by age.
  std::vector<std::string> Known(EventBounds bounds = {}) {
    const auto state = Open(bounds);
    Load(*state);
    std::vector<std::string> known;
    for (const backend::JobView& view : state->TakeJobHistory()) {
      const v1::Job& job = view.job();
      known.push_back(absl::StrCat(job.instance(), "/", job.id(), " ",
                                   v1::JobOutcome_Name(job.outcome()).substr(12), " ",
                                   v1::JobStatus_Name(job.status()).substr(11)));
    }
    return known;
  }
};

TEST_F(JobHistoryTest, AResultOutlivesTheEventsThatToldIt) {
  const EventBounds bounds{10, 1 << 20};
  {
    const auto state = Open(bounds);
    Load(*state);
    ASSERT_TRUE(state
                    ->Save({Change(1, "j", v1::JOB_STATUS_CREATED), Completed(2, "j"),
                            Change(3, "j", v1::JOB_STATUS_NULL)})
                    .ok());
    for (uint64_t i = 4; i < 100; ++i) ASSERT_TRUE(state->Save({MakeEvent(i)}).ok());
  }
  EXPECT_THAT(Known(bounds), testing::Contains("/j SUCCEEDED NULL"));
}

TEST_F(JobHistoryTest, AJobIsKnownAtEveryPointOfItsLife) {
  const auto save = [this](std::vector<EventPtr> events) {
    const auto state = Open();
    Load(*state);
    EXPECT_TRUE(state->Save(events).ok());
  };
  save({Change(1, "j", v1::JOB_STATUS_CREATED)});
  EXPECT_THAT(Known(), ElementsAre("/j UNSPECIFIED CREATED"));
  // What its end will be is told before the end.
  save({Completed(2, "j")});
  EXPECT_THAT(Known(), ElementsAre("/j UNSPECIFIED CREATED"));
  save({Change(3, "j", v1::JOB_STATUS_CONCLUDED)});
  EXPECT_THAT(Known(), ElementsAre("/j SUCCEEDED CONCLUDED"));
  save({Change(4, "j", v1::JOB_STATUS_NULL)});
  EXPECT_THAT(Known(), ElementsAre("/j SUCCEEDED NULL"));
  save({Change(5, "j", v1::JOB_STATUS_CREATED), Change(6, "j", v1::JOB_STATUS_ABORTING),
        Change(7, "j", v1::JOB_STATUS_NULL), Change(8, "j", v1::JOB_STATUS_CREATED)});
  EXPECT_THAT(Known(),
              ElementsAre("/j SUCCEEDED NULL", "/j FAILED NULL", "/j UNSPECIFIED CREATED"));
  save({Change(9, "j", v1::JOB_STATUS_CREATED)});
  EXPECT_THAT(Known(), ElementsAre("/j SUCCEEDED NULL", "/j FAILED NULL", "/j FAILED NULL",
                                   "/j UNSPECIFIED CREATED"))
      << "one whose id another takes has ended";
}

TEST_F(JobHistoryTest, EveryInstanceHasItsShareOfResults) {
  EventBounds bounds;
  bounds.ended_jobs_max = 4;
  {
    const auto state = Open(bounds);
    Load(*state);
    ASSERT_TRUE(state->Save({Change(1, "theirs", v1::JOB_STATUS_NULL, "vm1")}).ok());
    for (uint64_t i = 2; i < 50; ++i) {
      ASSERT_TRUE(state->Save({Change(i, absl::StrCat("j", i), v1::JOB_STATUS_NULL)}).ok());
    }
  }
  const auto known = Known(bounds);
  EXPECT_THAT(known, ElementsAre("vm1/theirs FAILED NULL", "/j47 FAILED NULL", "/j48 FAILED NULL",
                                 "/j49 FAILED NULL"));
}

TEST_F(JobHistoryTest, EveryInstanceHasItsShareOfEvents) {
  const EventBounds bounds{10, 1 << 20};
  {
    const auto state = Open(bounds);
    Load(*state);
    ASSERT_TRUE(state
                    ->Save({Change(1, "a", v1::JOB_STATUS_CREATED, "quiet"),
                            Change(2, "a", v1::JOB_STATUS_NULL, "quiet")})
                    .ok());
    for (uint64_t i = 3; i < 100; ++i) {
      ASSERT_TRUE(state->Save({Change(i, "b", v1::JOB_STATUS_RUNNING, "storm")}).ok());
    }
  }
  const auto state = Open(bounds);
  const auto saved = state->Load();
  ASSERT_TRUE(saved.ok()) << saved.status();
  std::vector<uint64_t> sequences;
  for (const EventPtr& event : saved->events) sequences.push_back(event->sequence());
  EXPECT_THAT(sequences, ElementsAre(1, 2, 92, 93, 94, 95, 96, 97, 98, 99));
  EXPECT_EQ(saved->dropped, 0u);
  EXPECT_THAT(saved->dropped_of, ElementsAre(std::make_pair("storm", 91)));
}

TEST_F(JobHistoryTest, AMissingEventIsAGapOfItsInstanceAlone) {
  {
    const auto state = Open();
    Load(*state);
    for (uint64_t i = 1; i <= 6; ++i) {
      ASSERT_TRUE(
          state->Save({Change(i, "j", v1::JOB_STATUS_RUNNING, i % 2 == 0 ? "even" : "odd")}).ok());
    }
  }
  ASSERT_TRUE((*Database::Open(database()))->Run("DELETE FROM events WHERE sequence = 3").ok());
  const auto saved = Open()->Load();
  std::vector<uint64_t> sequences;
  for (const EventPtr& event : saved->events) sequences.push_back(event->sequence());
  EXPECT_THAT(sequences, ElementsAre(2, 4, 5, 6));
  EXPECT_THAT(saved->dropped_of, ElementsAre(std::make_pair("odd", 3)));
}

TEST_F(JobHistoryTest, GivenUpEventsTakeNoResultsWithThem) {
  {
    const auto state = Open();
    Load(*state);
    ASSERT_TRUE(state->Save({Change(1, "j", v1::JOB_STATUS_NULL)}).ok());
    state->AddGap();
    ASSERT_TRUE(state->Save({Change(9, "k", v1::JOB_STATUS_NULL)}).ok());
    state->AddGap();  // And the process ends.
  }
  EXPECT_THAT(Known(), ElementsAre("/j FAILED NULL", "/k FAILED NULL"));
}

TEST_F(JobHistoryTest, ADamagedResultIsLeftOut) {
  {
    const auto state = Open();
    Load(*state);
    ASSERT_TRUE(
        state->Save({Change(1, "j", v1::JOB_STATUS_NULL), Change(2, "k", v1::JOB_STATUS_NULL)})
            .ok());
  }
  ASSERT_TRUE(
      (*Database::Open(database()))->Run("UPDATE job_history SET coming = 2 WHERE start = 1").ok());
  EXPECT_THAT(Known(), ElementsAre("/k FAILED NULL"));
}

TEST_F(JobHistoryTest, ALogKeepsItsIdentityUntilItsDatabaseIsAnother) {
  const std::string id = Open()->log_id();
  EXPECT_EQ(id.size(), 32u);
  EXPECT_EQ(Open()->log_id(), id);
  std::filesystem::remove(database());
  EXPECT_NE(Open()->log_id(), id);
}

}  // namespace
}  // namespace tidemark::store
