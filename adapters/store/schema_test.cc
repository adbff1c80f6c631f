// The tables of the state folder: those of an older Tidemark, and those that are missing.
#include "adapters/store/schema.h"

#include <sqlite3.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "absl/strings/match.h"
#include "adapters/store/checksum.h"
#include "adapters/store/state_world.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace tidemark::store {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class SchemaTest : public StateWorld {
 protected:
  // The tables as version 1 or 2 left them, with three events of which the first job has ended.
  void MakeOld(int version, bool with_gap = false) {
    const auto made = Database::Open(database());
    ASSERT_TRUE(made.ok()) << made.status();
    Database& old = **made;
    ASSERT_TRUE(old.Run("CREATE TABLE events (sequence INTEGER PRIMARY KEY, previous INTEGER NOT "
                        "NULL, checksum INTEGER NOT NULL, body BLOB NOT NULL);"
                        "CREATE TABLE instances (id TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT "
                        "ROWID;"
                        "CREATE TABLE jobs (instance TEXT, id TEXT, body BLOB NOT NULL,"
                        " PRIMARY KEY (instance, id)) WITHOUT ROWID;"
                        "CREATE TABLE floor (sequence INTEGER NOT NULL);"
                        "INSERT INTO floor VALUES (7);")
                    .ok());
    if (version == 2) {
      ASSERT_TRUE(old.Run("CREATE TABLE exports (instance TEXT, id TEXT, body BLOB NOT NULL,"
                          " PRIMARY KEY (instance, id)) WITHOUT ROWID")
                      .ok());
    }
    ASSERT_TRUE(old.Run(absl::StrCat("PRAGMA user_version = ", version).c_str()).ok());
    for (uint64_t sequence = 1; sequence <= 3; ++sequence) {
      backend::Event event;
      event.set_sequence(sequence);
      event.set_instance(sequence == 2 ? "vm" : "");
      event.mutable_job_status_change()->set_id("j");
      event.mutable_job_status_change()->set_status(sequence == 1 ? v1::JOB_STATUS_NULL
                                                                  : v1::JOB_STATUS_RUNNING);
      const std::string body = event.SerializeAsString();
      const uint64_t previous = with_gap && sequence == 2 ? 0 : sequence - 1;
      auto insert = old.Prepare("INSERT INTO events VALUES (?, ?, ?, ?)");
      ASSERT_TRUE(insert.ok());
      ASSERT_TRUE(insert->Bind(static_cast<int64_t>(sequence))
                      .Bind(static_cast<int64_t>(previous))
                      .Bind(Checksum({sequence, previous}, body))
                      .BindBlob(body)
                      .Run()
                      .ok());
    }
    const std::string body = MakeInstance("vm").SerializeAsString();
    auto insert = old.Prepare("INSERT INTO instances VALUES ('vm', ?)");
    ASSERT_TRUE(insert->BindBlob(body).Run().ok());
    std::ofstream(folder_ + "/events-are-whole") << "";
  }
};

TEST_F(SchemaTest, TheTablesOfEveryOlderTidemarkAreBroughtUp) {
  for (const int version : {1, 2}) {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directory(folder_);
    MakeOld(version);
    const auto state = Open();
    ASSERT_NE(state, nullptr);
    const auto saved = state->Load();
    ASSERT_TRUE(saved.ok()) << saved.status();
    EXPECT_THAT(saved->events, SizeIs(3));
    EXPECT_EQ(saved->dropped, 0u);
    EXPECT_THAT(saved->dropped_of, IsEmpty());
    EXPECT_THAT(state->TakeJobHistory(), SizeIs(3)) << "one that ended, and two that live";
    EXPECT_THAT(*state->LoadInstances(), SizeIs(1));
    EXPECT_TRUE(state->SaveExport("vm", v1::BlockExportInfo()).ok());
    EXPECT_TRUE(state->Save({MakeEvent(10)}).ok());
    EXPECT_THAT(warnings_, IsEmpty());
  }
  EXPECT_THAT(Load(*Open()), ElementsAre(1, 2, 3, 10));
}

TEST_F(SchemaTest, AGapOfAnOlderTidemarkStaysOne) {
  MakeOld(2, /*with_gap=*/true);
  const auto state = Open();
  const auto saved = state->Load();
  ASSERT_THAT(saved->events, SizeIs(2));
  EXPECT_EQ(saved->dropped, 1u);
  EXPECT_THAT(state->TakeJobHistory(), SizeIs(3)) << "also from before the gap";
}

TEST_F(SchemaTest, ACopyIsMadeFirstAndIsWhole) {
  MakeOld(2);
  const std::string copy = database() + ".version-2";
  Open();
  struct stat status;
  ASSERT_EQ(stat(copy.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  const auto old = Database::Open(copy);
  ASSERT_TRUE(old.ok()) << old.status();
  EXPECT_EQ(*(*old)->Ask("PRAGMA user_version"), 2);
  EXPECT_EQ(*(*old)->Ask("SELECT count(*) FROM events"), 3);
}

TEST_F(SchemaTest, WithoutItsCopyNothingIsChanged) {
  MakeOld(2);
  // A folder is in its place.
  std::filesystem::create_directory(database() + ".version-2");
  const auto state = StateFolder::Open(folder_, SystemClock(), Nobody);
  EXPECT_FALSE(state.ok());
  EXPECT_TRUE(absl::StrContains(state.status().message(), database() + ".version-2"))
      << state.status();
  EXPECT_EQ(*(*Database::Open(database()))->Ask("PRAGMA user_version"), 2);
}

TEST_F(SchemaTest, ATableThatIsMissingOrAnotherIsToldAndTheFileMovedAside) {
  for (const char* damage :
       {"DROP TABLE exports", "DROP TABLE jobs", "DROP TABLE instances", "DROP TABLE events",
        "DROP TABLE floor", "DROP TABLE log", "DROP TABLE job_history", "DELETE FROM log",
        "UPDATE log SET id = substr(id, 2) || CAST(x'E9' AS TEXT)", "DELETE FROM floor",
        "ALTER TABLE events RENAME COLUMN body TO blob"}) {
    std::filesystem::remove_all(folder_);
    warnings_.clear();
    {
      const auto state = Open();
      Load(*state);
      ASSERT_TRUE(state->SaveInstance(MakeInstance("vm")).ok());
      ASSERT_TRUE(state->SaveJob(MakeJob("vm", "j")).ok());
      ASSERT_TRUE(state->Save({MakeEvent(1)}).ok());
    }
    ASSERT_TRUE((*Database::Open(database()))->Run(damage).ok()) << damage;
    const auto state = Open();
    ASSERT_NE(state, nullptr) << damage;
    EXPECT_THAT(warnings_, ElementsAre(HasSubstr(database() + ".damaged-"))) << damage;
    EXPECT_THAT(Load(*state), IsEmpty()) << damage;
    EXPECT_TRUE(state->SaveExport("vm", v1::BlockExportInfo()).ok()) << damage;
    EXPECT_EQ(state->LoadInstances()->size(),
              absl::StrContains(damage, "TABLE instances") ? 0u : 1u)
        << damage;
  }
}

// Kills the process, as it were, behind each statement that changes something.
TEST_F(SchemaTest, AnInstanceIsForgottenWithAllThatItHasOrNotAtAll) {
  const auto state = Open();
  ASSERT_TRUE(state->SaveInstance(MakeInstance("vm")).ok());
  ASSERT_TRUE(state->SaveJob(MakeJob("vm", "j")).ok());
  ASSERT_TRUE(state->SaveExport("vm", v1::BlockExportInfo()).ok());
  const auto other = Database::Open(database());
  ASSERT_TRUE((*other)
                  ->Run("CREATE TRIGGER no BEFORE DELETE ON instances "
                        "BEGIN SELECT RAISE(ABORT, 'the disk fails'); END")
                  .ok());
  EXPECT_FALSE(state->DeleteInstance("vm").ok());
  EXPECT_THAT(*state->LoadInstances(), SizeIs(1));
  EXPECT_THAT(*state->LoadJobs("vm"), SizeIs(1));
  EXPECT_THAT(*state->LoadExports("vm"), SizeIs(1));
  ASSERT_TRUE((*other)->Run("DROP TRIGGER no").ok());
  EXPECT_TRUE(state->DeleteInstance("vm").ok());
  EXPECT_THAT(*state->LoadOtherInstanceIds(), IsEmpty());
}

}  // namespace
}  // namespace tidemark::store
